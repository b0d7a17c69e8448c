"""Writes down what a phase hides in one paragraph, for the report."""

from itertools import pairwise

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from maskwright.batching.pack import assemble
from maskwright.batching.row_plan import NUM_SPECIALS, Pieces
from maskwright.core.batches import CorruptedBatch, PackedBatch
from maskwright.core.plug_in_field import Chosen
from maskwright.core.records.masked_example import FILE, MaskedExample
from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import Corpus
from maskwright.masking.masking import MaskingOptions
from maskwright.objectives.base import Objective

MOST_TOKENS = 128
"""In the paragraph, special ones included: more would be a page."""


def beginning_of_a_document(corpus: Corpus, sequence_length: int) -> PackedBatch:
    """Return one row with the beginning of the first document that is long enough, or of the longest.

    The document is of the training text, which is all that targets may have been made for; it is the same for all
    phases.

    Args:
        corpus: prepared.
        sequence_length: of the phase.
    """
    split = corpus.split("train")
    lengths = split.document_lengths
    document = np.array([int(lengths.clip(max=MOST_TOKENS - NUM_SPECIALS).argmax())])
    row_length = min(sequence_length, MOST_TOKENS)
    start, length = np.zeros(1, np.int64), lengths[document].clip(max=row_length - NUM_SPECIALS)
    pieces = Pieces(document, start, length, np.array([0, 1]))
    return assemble(pieces, split.gather_tokens(document, start, length), corpus.vocabulary, row_length)


def write_masked_example(
    folder: RunFolder,
    phase: int,
    objective: Chosen[Objective],
    batch: CorruptedBatch,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Write a batch of one row.

    Args:
        folder: of the run.
        phase: counted from 0.
        objective: name and options, from the recipe.
        batch: corrupted and completed, on any device.
        tokenizer: of the corpus.
    """
    clean = batch.clean
    is_scored_T = torch.zeros(len(clean.token_ids_T), dtype=torch.bool)
    for question in batch.questions.values():
        is_scored_T[question.positions_M[: int(question.count)].cpu()] = True
    begin, length = 1, int(clean.layout.sequence_starts[1]) - NUM_SPECIALS
    text = slice(begin, begin + length)
    MaskedExample(
        objective=objective.name,
        strategy=strategy_name(objective.options),
        tokens=_as_in_text(clean.token_ids_T[text].tolist(), tokenizer),
        is_scored=is_scored_T[text].tolist(),
    ).write(folder.phase(phase) / FILE)


def _as_in_text(token_ids: list[int], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Return what each token adds to the text; one that ends within a character adds a replacement character."""
    beginnings = [token_ids[:end] for end in range(len(token_ids) + 1)]
    texts = tokenizer.batch_decode(beginnings, clean_up_tokenization_spaces=False)
    return [after[len(before.rstrip("\ufffd")) :] for before, after in pairwise(texts)]


def strategy_name(options: object) -> str | None:
    """Return the name of the masking strategy in an objective's options, if it has one."""
    return options.strategy.name if isinstance(options, MaskingOptions) else None
