"""Phases that make something before their first step, and phases that begin with fresh weights."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.resume.conftest import outcome

from maskwright.masking.phase_start import PhaseStart
from maskwright.objectives.mlm import Mlm
from maskwright.training.checkpoint import load_state
from maskwright.training.trained_run import open_run

PLAIN = {"objective": {"name": "mlm"}, "sequence_length": 16}
NUM_STEPS = 12


class Recalling(Mlm):
    """Scores with the embedding's norm at the phase's beginning, so that it must be found again when resumed."""

    needs_begin = True

    def begin(self, encoder, start: PhaseStart) -> None:
        snapshot = start.folder / "snapshot.safetensors"
        if not start.was_begun:
            Path(start.folder).mkdir(parents=True, exist_ok=True)
            save_file({"embedding": encoder.embedding_weight_VE.detach().clone()}, snapshot)
        self.norm = float(load_file(snapshot)["embedding"].norm())

    def loss(self, encoder, batch):
        (term,) = super().loss(encoder, batch)
        return (type(term)(term.name, term.total * self.norm, term.count),)


def phases(weights: str) -> list[dict]:
    recalling = {"objective": {"name": f"{__name__}:Recalling"}, "sequence_length": 16, "weights": weights}
    return [{**PLAIN, "share": 5}, {**recalling, "share": 7}]


def what_was_hidden(folder: Path) -> dict[str, str]:
    """Return what each phase hid in a paragraph when it was left."""
    return {path.parent.name: path.read_text() for path in (folder / "phases").glob("*/masked.json")}


def test_a_checkpoint_that_was_just_read_is_not_written_again(train, tmp_path, monkeypatch):
    """A run that was killed while the second phase was prepared has a checkpoint from before it."""
    those, begin = phases("continue"), Recalling.begin

    def kill(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Recalling, "begin", kill)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, phases=those)
    saved = tmp_path / "checkpoints" / "step-000005"
    number = saved.stat().st_ino
    monkeypatch.setattr(Recalling, "begin", begin)
    train(tmp_path, phases=those, checkpoints={"every_steps": 3, "every_minutes": None, "keep_last": 9})
    assert saved.stat().st_ino == number


@pytest.mark.parametrize("call", [1, 2], ids=["first phase", "last phase"])
def test_killed_between_the_last_step_of_a_phase_and_its_end(train, tmp_path, monkeypatch, call):
    those = phases("continue")
    train(tmp_path / "straight", phases=those)
    calls = []

    def kill(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("maskwright.training.loop.leave_phase", kill)
        patched.setattr("maskwright.training.loop.TrainingLoop._is_save_due", lambda self: True)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", phases=those)
    for phase in ("1", "2")[: call - 1]:  # left in the meantime, by the stand-in
        assert phase not in what_was_hidden(tmp_path / "killed")
    train(tmp_path / "killed", phases=those)
    wanted = what_was_hidden(tmp_path / "straight")
    assert what_was_hidden(tmp_path / "killed") == {phase: wanted[phase] for phase in ("1", "2")[call - 1 :]}


def growing() -> list[dict]:
    """Return phases that grow, change the batch, keep one head, and are taught by the smaller model before."""
    late = {"objective": {"name": "late_mask", "terms": ["token", "distillation"]}, "sequence_length": 16}
    grown = {"encoder": {"overrides": {"num_layers": 3}}, "batch": {"tokens": 256, "micro_batch_tokens": 128}}
    return [PLAIN | {"share": 4}, late | grown | {"share": 4}, late | {"keep": ["decoder"], "share": 4}]


@pytest.mark.parametrize(
    ("those", "steps"),
    [(phases("continue"), (4, 5, 6, 11)), (phases("fresh"), (4, 5, 6, 11)), (growing(), (3, 4, 5, 7, 8, 9))],
    ids=["continue", "fresh", "growing"],
)
def test_stopped_around_every_change_of_phase(train, tmp_path, those, steps):
    train(tmp_path / "straight", phases=those)
    straight = outcome(tmp_path / "straight")
    assert len(straight.metrics) == NUM_STEPS
    for step in steps:
        folder = tmp_path / f"stopped-{step}"
        assert train(folder, stop_at_call=step, phases=those).state.step == step
        train(folder, phases=those)
        assert outcome(folder) == straight
        assert what_was_hidden(folder) == what_was_hidden(tmp_path / "straight")


def test_a_checkpoint_says_its_phase(train, tmp_path):
    train(tmp_path, phases=growing(), checkpoints={"every_steps": 1, "every_minutes": None, "keep_last": 20})
    found = [load_state(tmp_path / "checkpoints" / f"step-{step:06}").phase for step in (1, 4, 5, 8, 9, 12)]
    assert found == [0, 0, 1, 1, 2, 2]
    assert [len(open_run(tmp_path, step).model.encoder.blocks) for step in (4, 5, 12)] == [2, 3, 3]


def test_killed_while_a_phase_begins(train, tmp_path, monkeypatch):
    train(tmp_path / "straight", phases=phases("fresh"))

    def killed(self, encoder, start):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recalling, "begin", killed)
        train(tmp_path / "killed", phases=phases("fresh"))
    assert train(tmp_path / "killed", phases=phases("fresh")).state.step == NUM_STEPS
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")


def test_fresh_weights_owe_nothing_to_the_phase_before(train, tmp_path):
    """A long and a short first phase leave the same beginning for the second."""
    ends = []
    for name, share in (("short", 1), ("long", 5)):
        first = {**PLAIN, "share": share}
        second = {"objective": {"name": "mlm", "rate": 0.2}, "sequence_length": 16, "weights": "fresh", "share": 6}
        loop = train(tmp_path / name, phases=[first, second], budget={"steps": share + 6})
        ends.append((outcome(tmp_path / name), loop.run.course.phase_steps))
    (short, short_steps), (long, long_steps) = ends
    assert (short_steps, long_steps) == ((1, 6), (5, 6))
    rates = [[line["learning_rate"] for line in each.metrics[-6:]] for each in (short, long)]
    assert rates[0] == pytest.approx(rates[1])
    updates = [
        {float(value) for name, value in each.optimizer.items() if name.endswith("/step")} for each in (short, long)
    ]
    assert updates == [{6.0}, {6.0}]
