"""Kinds of tokenizers that can be trained: one file each, discovered by name."""
