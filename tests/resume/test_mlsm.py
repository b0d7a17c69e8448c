"""Teacher, dictionary and student: stopped at any step or killed between phases, a run ends as the straight one."""

import shutil

import pytest
from tests.resume.conftest import outcome

from maskwright.objectives.terms import atoms
from maskwright.semantics import phase_teacher as teaching

TEACHER_STEPS, NUM_STEPS = 2, 6
DICTIONARY = {"num_atoms": 12, "num_states": 500, "num_tokens": 1500, "num_updates": 3}
TEACHER = {"objective": {"name": "mlm"}, "sequence_length": 32, "share": TEACHER_STEPS}


def settings(*terms) -> dict:
    student = {
        "objective": {"name": "mlsm", "terms": [*terms]},
        "sequence_length": 32,
        "share": NUM_STEPS - TEACHER_STEPS,
        "weights": "fresh",
    }
    return {"phases": [TEACHER, student], "budget": {"steps": NUM_STEPS}}


KINDS = {
    "cached": settings({"name": "atoms", "dictionary": DICTIONARY}, "token"),
    "online": settings({"name": "atoms", "dictionary": DICTIONARY, "targets": "online"}),
    "itself": settings({"name": "own_atoms", "dictionary": DICTIONARY, "refresh_steps": 2}, "token"),
    "teacher_tokens": settings("distillation", "token"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_after_every_single_step(train, tmp_path, kind):
    train(tmp_path / "straight", **KINDS[kind])
    for step in range(1, NUM_STEPS + 1):
        assert train(tmp_path / "stopped", stop_at_call=1, **KINDS[kind]).state.step == step
    straight = outcome(tmp_path / "straight")
    assert len(straight.metrics) == NUM_STEPS
    assert all(any("agreement" in key for key in line) for line in straight.metrics[TEACHER_STEPS:])
    assert outcome(tmp_path / "stopped") == straight


@pytest.mark.parametrize("moment", ["make_dictionary", "build_target_cache"])
def test_killed_while_the_phase_begins(train, corpus, tmp_path, monkeypatch, moment):
    train(tmp_path / "straight", **KINDS["cached"])
    shutil.rmtree(corpus.folder / "targets")

    def killed(*arguments):
        raise KeyboardInterrupt

    where = teaching if moment == "make_dictionary" else atoms
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(where, moment, killed)
        train(tmp_path / "killed", **KINDS["cached"])
    assert train(tmp_path / "killed", **KINDS["cached"]).state.step == NUM_STEPS
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")


def test_a_cache_that_was_deleted_is_made_again_from_the_teacher_that_was_kept(train, corpus, tmp_path):
    train(tmp_path / "straight", **KINDS["cached"])
    train(tmp_path / "stopped", stop_at_call=4, **KINDS["cached"])
    shutil.rmtree(corpus.folder / "targets")
    train(tmp_path / "stopped", **KINDS["cached"])
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")
