"""A loss or gradient that is not finite never reaches the weights, and leaves what reproduces it."""

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file

from maskwright.core.errors import NonFiniteError
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.training.checkpoint import TrainingState
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run
from maskwright.training.watching.watcher import StepDone

BAD_STEP = 4


@pytest.fixture
def loop(raw_recipe, corpus, tmp_path) -> TrainingLoop:
    raw = {**raw_recipe, "checkpoints": {"every_steps": None, "every_minutes": None}, "probes": {}}
    return TrainingLoop(assemble_run(parse_recipe(raw, "test"), corpus, RunFolder(tmp_path), Ranks(), {}))


def poisoned_loss(loop: TrainingLoop):
    """Let the loss of one micro-batch of one step be infinite."""
    objective = loop.phase.model.objective
    honest = objective.loss

    def loss(encoder, batch):
        (term,) = honest(encoder, batch)
        is_bad = loop.state.step == BAD_STEP
        return (type(term)(term.name, term.total * (float("inf") if is_bad else 1.0), term.count),)

    return objective, loss


def poisoned_gradient(loop: TrainingLoop) -> None:
    """Let one number of one gradient be NaN in one step, with a loss that looks well."""
    weight = loop.phase.model.encoder.embedding_weight_VE

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        if loop.state.step != BAD_STEP:
            return gradient
        gradient = gradient.clone()
        gradient.view(-1)[7] = float("nan")
        return gradient

    weight.register_hook(poison)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_the_update_is_not_made_and_what_reproduces_it_is_kept(loop, kind, monkeypatch, tmp_path):
    if kind == "loss":
        objective, loss = poisoned_loss(loop)
        monkeypatch.setattr(objective, "loss", loss)
    else:
        poisoned_gradient(loop)
    with pytest.raises(NonFiniteError, match=f"step {BAD_STEP}: .*the update was not made"):
        loop.train()
    weights = loop.phase.model.tensors()
    assert all(tensor.isfinite().all() for tensor in weights.values())
    saved = load_file(loop.checkpoints.path(BAD_STEP) / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in weights.items())
    (folder,) = (tmp_path / "non_finite").iterdir()
    about = json.loads((folder / "about.json").read_text())
    assert about["step"] == BAD_STEP
    kept = load_file(folder / "micro-batch-1.safetensors")
    assert torch.equal(kept["input_ids_T"], loop.run.batches(BAD_STEP, loop.phase.model.objective)[1].input.token_ids_T)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, BAD_STEP + 1))


@pytest.fixture
def probed(raw_recipe, corpus, tmp_path):
    """Return a function that makes a loop whose probe finds NaN after a step, and adds a number to a weight."""

    def make(value: float) -> TrainingLoop:
        def probe(encoder, *_: object) -> dict[str, float]:
            if loop.state.step != BAD_STEP:
                return {"held_out_cross_entropy": 1.0}
            encoder.embedding_weight_VE.detach().view(-1)[7] += value
            return {"held_out_cross_entropy": float("nan")}

        raw = {**raw_recipe, "probes": {"every_steps": 4, "max_share": None}}
        recipe = parse_recipe(raw, "test")
        loop = TrainingLoop(assemble_run(recipe, corpus, RunFolder(tmp_path), Ranks(), {"held_out": probe}))
        return loop

    return make


def test_a_probe_that_finds_nan_ends_no_run_whose_weights_are_finite(probed, tmp_path, capsys):
    probed(0.0).train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["held_out_cross_entropy"] for line in lines if "held_out_loss" in line] == [None, 1.0, 1.0]
    assert f"after step {BAD_STEP}: held_out_cross_entropy not finite" in capsys.readouterr().err


def test_a_probe_that_finds_nan_in_the_weights_ends_the_run(probed):
    with pytest.raises(
        NonFiniteError, match=rf"after step {BAD_STEP}: encoder(.|\n)*the checkpoint after step 3 is clean"
    ):
        probed(float("nan")).train()


def test_a_held_out_loss_of_nan_is_not_the_best():
    state = TrainingState(step=1, phase=0, num_tokens=0, num_text_tokens=0, seconds=0.0)
    after = state.measured({"held_out_loss": float("nan")}, can_end_run=True)
    assert after.best_step is None and after.num_probes_without_improvement == 1


@dataclass
class Poison:
    """Puts one NaN into a tensor after a step, as an update that overflows does, where no loss of that step sees it."""

    loop: TrainingLoop
    step: int
    is_weight: bool
    name: str = ""

    def after_step(self, step: StepDone) -> None:
        if step.state.step == self.step:
            phase = self.loop.phase
            tensors = phase.model.tensors() if self.is_weight else phase.optimizers.state_tensors()
            self.name = next(name for name, tensor in tensors.items() if tensor.numel() > 3)
            tensors[self.name].detach().view(-1)[3] = float("nan")


@pytest.mark.parametrize("is_weight", [True, False], ids=["weight", "optimizer"])
@pytest.mark.parametrize("step", [6, 7, 8])
def test_what_an_update_leaves_is_saved_only_if_finite(raw_recipe, corpus, tmp_path, monkeypatch, is_weight, step):
    """Step 6 is saved, step 7 is not, and after step 8 the next phase takes over."""
    raw = {**raw_recipe, "probes": {}, "checkpoints": {"every_steps": 3, "every_minutes": None, "keep_last": 9}}
    loop = TrainingLoop(assemble_run(parse_recipe(raw, "test"), corpus, RunFolder(tmp_path), Ranks(), {}))
    loop.checkpoints.path(99).mkdir(parents=True)  # one that was passed over is not said to be clean
    poison = Poison(loop, step, is_weight)
    monkeypatch.setattr("maskwright.training.loop.Display.after_step", poison.after_step)
    with pytest.raises(NonFiniteError) as raised:
        loop.train()
    if step == 7 and not is_weight:  # the next update brings it into the weights
        assert "after step 8: encoder." in raised.value.got
    else:
        assert f"after step {step}: {poison.name} is not finite in" in raised.value.got
    clean = 3 if step == 6 else 6
    assert loop.checkpoints.steps()[-2:] == [clean, 99]
    assert f"the checkpoint after step {clean} is clean" in raised.value.to_do
    for tensor in load_file(loop.checkpoints.path(clean) / "model.safetensors").values():
        assert tensor.isfinite().all()
