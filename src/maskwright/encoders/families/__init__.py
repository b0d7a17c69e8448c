"""Families of encoders: one architecture, one file. Nothing lists them."""
