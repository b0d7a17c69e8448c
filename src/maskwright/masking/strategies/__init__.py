"""Masking strategies: plug-ins that say which tokens are hidden together, and which of them more often."""
