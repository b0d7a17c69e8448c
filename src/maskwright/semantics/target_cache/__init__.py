"""Targets of a whole corpus, computed once and kept on disk."""
