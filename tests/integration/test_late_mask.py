"""A run with late masks: every variant trains, what is exported is a plain model, and a decoder can't slip in."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from maskwright.core.errors import ExportError
from maskwright.core.records import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.export.folder import import_model
from maskwright.reports import write_model_card
from maskwright.training.distributed import Ranks
from maskwright.training.finish import export_run
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe import parse_recipe
from maskwright.training.start import assemble_run

VARIANTS = [{}, {"decoder": "cross", "decoder_layers": 1}, {"insert_at": 1, "strategy": "whole_word"}]


@pytest.fixture
def run(raw_recipe: dict[str, Any], corpus: Corpus, tmp_path) -> RunFolder:
    """A run of all variants, one after the other, with plain masked language modelling at the end."""
    objectives = [{"name": "late_mask", **variant} for variant in VARIANTS] + [{"name": "mlm"}]
    raw_recipe |= {
        "phases": [{"objective": objective, "sequence_length": 32} for objective in objectives],
        "budget": {"steps": 12},
        "probes": {},
    }
    folder = RunFolder(tmp_path / "run")
    TrainingLoop(assemble_run(parse_recipe(raw_recipe, "test"), corpus, folder, Ranks(), {})).train()
    export_run(folder, RunRecord.read(folder.run_record))
    return folder


def test_the_export_is_a_plain_model_and_a_decoder_is_refused(run: RunFolder):
    (checkpoint,) = (path for path in run.checkpoints.iterdir() if path.name == "step-000012")
    trained = load_file(checkpoint / "model.safetensors")
    decoders = {name for name in trained if "decoder_blocks." in name}
    assert {name.split(".")[0] for name in decoders} == {"objective_0", "objective_1"}
    assert sum(name.endswith("mask_vector") for name in trained) == 3

    record = RunRecord.read(run.run_record)
    assert [phase.masks_at_input for phase in record.plan.phases] == [False, False, False, True]
    assert record.export is not None and record.export.max_logit_difference < 1e-4
    model = AutoModelForMaskedLM.from_pretrained(run.model)
    assert type(model).__name__ == "ModernBertForMaskedLM" and model.config.num_hidden_layers == 2
    assert "of the steps, with mlm, taught it to" in write_model_card(run.path).read_text(encoding="utf-8")

    path = run.model / "model.safetensors"
    weights = load_file(path)
    assert sum(weight.numel() for weight in weights.values()) == sum(
        tensor.numel() for name, tensor in trained.items() if name.startswith(("encoder.", "vocabulary_head."))
    )
    # What a fine-tuning would read if somebody had put the decoder beside the encoder.
    kept = {name.replace("objective_0.decoder_blocks", "model.decoder"): trained[name] for name in decoders}
    save_file({**weights, **{name: torch.clone(weight) for name, weight in kept.items()}}, path, {"format": "pt"})
    with pytest.raises(ExportError, match="has no place in"):
        import_model(run.model)
