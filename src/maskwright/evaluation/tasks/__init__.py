"""Evaluation tasks: plug-ins, one idea one file; `base` has the contract."""
