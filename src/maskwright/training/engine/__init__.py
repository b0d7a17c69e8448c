"""Decisions about the machine before the first step: device, precision, cost, timing."""
