"""Asks a model something in the middle of its training, and leaves it as it was."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Switch modules to evaluation mode and gradients off, and restore every sub-module's mode afterwards.

    `no_grad` and not `inference_mode`: what a module caches in between is used by training afterwards.
    """
    was_training = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in was_training:
            part.training = training
