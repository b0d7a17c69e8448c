"""Sparse codes of hidden states over a dictionary, and learning the dictionary."""
