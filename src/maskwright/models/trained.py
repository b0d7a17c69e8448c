"""A model that was trained before, as it is read from disk."""

from dataclasses import dataclass

from torch import nn

from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.encoder import Encoder


@dataclass(frozen=True)
class TrainedModel:
    """A model that was trained before.

    Attributes:
        encoder: on the CPU, float32.
        head: called as `VocabularyHead` is.
        vocabulary: of its tokenizer.
        sha256: checksum of its weights.
    """

    encoder: Encoder
    head: nn.Module
    vocabulary: Vocabulary
    sha256: str
