"""Writes down what a phase hid in one row of its last step, for the report."""

import torch
from transformers import PreTrainedTokenizerFast

from maskwright.core.batches import CorruptedBatch
from maskwright.core.masked_example import FILE, MaskedExample
from maskwright.core.records import RunFolder


def write_masked_example(
    folder: RunFolder,
    phase: int,
    objective: dict[str, object],
    batch: CorruptedBatch,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Write the first row of a batch.

    Args:
        folder: of the run.
        phase: counted from 0.
        objective: name and options, from the recipe.
        batch: corrupted and completed, on any device.
        tokenizer: of the corpus.
    """
    clean = batch.clean
    token_ids = clean.token_ids_T[: clean.layout.row_length].cpu()
    is_scored = torch.zeros(len(clean.token_ids_T), dtype=torch.bool)
    is_scored[batch.scored_positions_M[batch.target_ids_M >= 0].cpu()] = True
    special_ids = set(tokenizer.all_special_ids)
    kept = [place for place, token in enumerate(token_ids.tolist()) if token not in special_ids]
    strategy = objective.get("strategy")
    MaskedExample(
        objective=str(objective["name"]),
        strategy=str(strategy["name"]) if isinstance(strategy, dict) else None,
        tokens=[str(tokenizer.convert_ids_to_tokens(int(token_ids[place]))) for place in kept],
        is_scored=[bool(is_scored[place]) for place in kept],
    ).write(folder.phase(phase) / FILE)
