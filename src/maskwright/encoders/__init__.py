"""Tokens to hidden states: families of encoders on the flat packed layout, and their attention."""

from maskwright.encoders.build import build_config, build_encoder

__all__ = ["build_config", "build_encoder"]
