"""What an objective is given before the first step of its phase."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from maskwright.core.ranks import Ranks
from maskwright.corpus.corpus import Corpus
from maskwright.models.trained import TrainedModel


@dataclass(frozen=True)
class PhaseStart:
    """What an objective is given before the first step of its phase.

    Attributes:
        folder: the phase's own in the run folder. What an objective makes there is found again when the run is
            resumed; it is to be written atomically, by the first rank alone.
        corpus: the run's.
        sequence_length: tokens in a row of the phase.
        num_steps: optimizer steps of the phase.
        seed: of the run.
        device: where the model is.
        dtype: of matrix products.
        micro_batch_tokens: tokens that may pass through an encoder at once.
        was_begun: whether steps of the phase were made before, so that the encoder has other weights by now than
            those that the phase began with.
        ranks: all processes of the run; the first is the one that writes.
        read_model: reads a folder with any masked encoder (or a run folder) as encoder and head on the CPU, with the
            checksum of its weights.
        model_before: gives the model that the phase before left, on the device and without a checksum; it is not to be
            changed. Where the phase was begun, a model of the same architecture with other weights; in the first phase,
            the one that the phase begins with.
    """

    folder: Path
    corpus: Corpus
    sequence_length: int
    num_steps: int
    seed: int
    device: torch.device
    dtype: torch.dtype
    micro_batch_tokens: int
    was_begun: bool
    ranks: Ranks
    read_model: Callable[[Path], TrainedModel]
    model_before: Callable[[], TrainedModel]
