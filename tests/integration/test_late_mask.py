"""A run with late masks: every variant trains, what is exported is a plain model, and a decoder can't slip in."""

import json
import shutil
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from maskwright.core.errors import ExportError
from maskwright.core.ranks import Ranks
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.export.folder import import_model
from maskwright.reports.model_card import write_model_card
from maskwright.training.export_checkpoint import export_run
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run
from maskwright.training.watching.held_out_loss import HeldOutLoss

VARIANTS = [{}, {"decoder": "cross", "decoder_layers": 1}, {"insert_at": 1, "strategy": "whole_word"}]


@pytest.fixture
def run(raw_recipe: dict[str, Any], corpus: Corpus, tmp_path) -> RunFolder:
    """A run of all variants, one after the other, with plain masked language modelling at the end."""
    objectives = [{"name": "late_mask", **variant} for variant in VARIANTS] + [{"name": "mlm"}]
    raw_recipe |= {
        "phases": [{"objective": objective, "sequence_length": 32} for objective in objectives],
        "budget": {"steps": 12},
        "probes": {},
        "checkpoints": {"every_steps": 3, "keep_last": 4},
    }
    folder = RunFolder(tmp_path / "run")
    TrainingLoop(assemble_run(parse_recipe(raw_recipe, "test"), corpus, folder, Ranks(), {})).train()
    export_run(folder.path)
    return folder


def test_the_export_is_a_plain_model_and_a_decoder_is_refused(run: RunFolder):
    trained = load_file(run.checkpoints / "step-000012" / "model.safetensors")
    of_late_masks = load_file(run.checkpoints / "step-000003" / "model.safetensors")
    decoders = {name for name in of_late_masks if "decoder.extra_blocks." in name}
    assert decoders and "objective.decoder.mask_vector" in of_late_masks
    assert {name.split(".")[0] for name in trained} == {"encoder", "vocabulary_head"}, "of the last phase, mlm"

    record = RunRecord.read(run.run_record)
    assert [phase.fills_masks for phase in record.plan.phases] == ["reader"] * 3 + ["encoder"]
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
    kept = {name.replace("objective.decoder", "model.decoder"): of_late_masks[name] for name in decoders}
    save_file({**weights, **{name: torch.clone(weight) for name, weight in kept.items()}}, path, {"format": "pt"})
    (run.model / "SHA256SUMS").unlink()
    with pytest.raises(ExportError, match="has no place in"):
        import_model(run.model)


def test_a_run_that_ends_with_late_masks_fills_them_with_its_decoder(raw_recipe, tmp_path, maskwright):
    """While it trains, when it is scored and when it fills; without the decoder a warning says what scores are."""
    raw_recipe |= {"phases": [{"objective": {"name": "late_mask"}, "sequence_length": 32}], "budget": {"steps": 6}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw_recipe), encoding="utf-8")
    run = RunFolder(tmp_path / "run")
    said = maskwright("train", tmp_path / "recipe.yaml", "--run", run.path)
    assert said.code == 0, said.err
    assert "masks are filled with the decoder" in said.err

    scored = EvaluationRecord.read(run.evaluation / "held_out.json")
    assert any("with the decoder" in note for note in scored.notes)
    last = json.loads(run.metrics.read_text().splitlines()[-1])
    assert last["held_out_cross_entropy"] == pytest.approx(scored.scores["cross_entropy"], rel=0.02)
    assert "made with the decoder" in (run.model / "README.md").read_text(encoding="utf-8")
    assert "with the decoder" in maskwright("fill", run.path, "the court [MASK] appeal").err
    assert "finished before" in maskwright("evaluate", run.path, "--tasks", "held_out").err

    shutil.rmtree(run.checkpoints)
    assert "with the decoder" in maskwright("fill", run.path, "the court [MASK] appeal").err
    content = run.reader.read_bytes()
    run.reader.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = maskwright("evaluate", run.path, "--tasks", "held_out")
    assert (said.code, "reader.safetensors was altered" in said.err) == (66, True), said.err
    assert "maskwright export RUN" in said.err
    checked = maskwright("doctor", run.path)
    assert (checked.code, "reader.safetensors: it is missing or was altered" in checked.err) == (66, True), checked.err
    run.reader.write_bytes(content)
    assert "every checksum holds" in maskwright("doctor", run.path).out

    run.reader.unlink()
    said = maskwright("evaluate", run.path, "--tasks", "held_out")
    assert said.code == 0, said.err
    assert "reader.safetensors, the decoder that reads them, is not there" in said.err
    alone = EvaluationRecord.read(run.evaluation / "held_out.json")
    assert alone.scores["cross_entropy"] != scored.scores["cross_entropy"]
    assert not any("decoder" in note for note in alone.notes)


def test_the_best_model_is_of_a_phase_that_asks_as_the_last_does(raw_recipe, corpus, tmp_path, monkeypatch):
    """Held-out losses with a decoder and with the encoder alone don't compare."""
    phases = [{"objective": {"name": name}, "sequence_length": 32} for name in ("late_mask", "mlm")]
    raw_recipe |= {"phases": phases, "budget": {"steps": 4}, "probes": {"every_steps": 1, "max_share": None}}
    losses = iter([1.0, 1.0, 9.0, 8.0])
    readers = []

    def probe(encoder, head, dtype, reader):
        readers.append(type(reader).__name__)
        return {}

    monkeypatch.setattr(HeldOutLoss, "__call__", lambda *_: {"held_out_loss": next(losses)})

    folder = RunFolder(tmp_path / "run")
    loop = TrainingLoop(assemble_run(parse_recipe(raw_recipe, "test"), corpus, folder, Ranks(), {"held_out": probe}))
    assert loop.train().best_step == 4
    assert readers == ["LateReader", "LateReader", "Modernbert", "Modernbert"]
