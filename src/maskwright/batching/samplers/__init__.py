"""Samplers: what a row of tokens holds; one file each, discovered by name."""
