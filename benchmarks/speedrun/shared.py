"""What both sides of the race share: the tracks, the text, and how a model is measured."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.run_tasks import evaluate
from maskwright.pipeline.evaluated_model import subject_of

VOCABULARY_SIZE = 16_384


@dataclass(frozen=True)
class Track:
    """What is raced against.

    Attributes:
        name: of the track.
        rival: a function of rivals.py.
        seconds: that the rival trains.
        layers, width, length: its shape.
        most_chunks: of training text that it may read.
        is_compiled: whether torch.compile may be used.
        rates, batches: that the rival is searched over: learning rates, and sequences in a batch.
    """

    name: str
    rival: str
    seconds: float
    layers: int = 6
    width: int = 256
    length: int = 128
    most_chunks: int = 200_000
    is_compiled: bool = True
    rates: tuple[float, ...] = (3e-4, 1e-3, 2e-3)
    batches: tuple[int, ...] = (16, 64)


TRACKS = {
    track.name: track
    for track in (
        Track("cpu-2core-bert", "bert_by_trainer", 1800),
        Track("cpu-2core-best", "modernbert_at_its_best", 1800),
        Track("dry-run-bert", "bert_by_trainer", 0.1, 1, 16, 32, 200, rates=(1e-3,), batches=(16, 8)),
        Track("dry-run-best", "modernbert_at_its_best", 0.1, 1, 16, 32, 200, False, (1e-3,), (16, 8)),
    )
}


class Chunks(Dataset):
    """Documents joined and cut into chunks, as run_mlm.py's group_texts does; no padding."""

    def __init__(self, corpus: Corpus, length: int, most_chunks: int) -> None:
        """Read documents for `most_chunks`, or all there are."""
        split, vocabulary = corpus.split("train"), corpus.vocabulary
        room, found, num_tokens = length - 2, list[np.ndarray](), 0
        for document in range(split.num_documents):
            one = np.array([document])
            found.append(split.gather_tokens(one, np.array([0]), split.document_lengths[one]).token_ids)
            num_tokens += len(found[-1])
            if num_tokens >= most_chunks * room:
                break
        flat = np.concatenate(found).astype(np.int64)
        rows = flat[: len(flat) // room * room].reshape(-1, room)
        ends = np.full((len(rows), 1), vocabulary.cls_id), np.full((len(rows), 1), vocabulary.sep_id)
        self.rows = torch.from_numpy(np.concatenate([ends[0], rows, ends[1]], axis=1))

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return one chunk."""
        return {"input_ids": self.rows[index]}


def open_track_corpus(folder: Path) -> Corpus:
    """Open the prepared text; it must have the vocabulary that the rules ask for, or fewer tokens if it is small."""
    corpus = open_corpus(folder, verify=True)
    if corpus.vocabulary.size > VOCABULARY_SIZE:
        raise SystemExit(f"{folder} has {corpus.vocabulary.size} tokens; the rules say {VOCABULARY_SIZE}")
    return corpus


def measured_on(model: Path, corpus: Corpus) -> dict[str, float]:
    """Return the held-out figures of a model folder, the same positions for everybody."""
    with tempfile.TemporaryDirectory() as out:
        (record,) = evaluate(subject_of(model, corpus), find_tasks(["held_out"], {}), Path(out), seed=1).records
    figures = {"cross_entropy": record.scores["cross_entropy"]}
    figures |= {f"constant_{name}": each["cross_entropy"] for name, each in record.baselines.items()}
    return {name: round(value, 4) for name, value in figures.items()}
