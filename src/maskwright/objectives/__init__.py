"""Plug-ins: what a model is asked to do. One idea, one file; `base.py` has the contract."""
