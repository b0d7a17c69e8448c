"""Steps are timed as they will be made, and timing them leaves no trace."""

import pytest
import torch

from maskwright.core.errors import RecipeError
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.training.engine import plan, timing
from maskwright.training.engine.costs import phase_flops_per_token
from maskwright.training.engine.decide import decide_engine
from maskwright.training.model import build_models
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run

DICTIONARY = {"num_atoms": 16, "num_tokens": 512, "num_states": 256, "num_updates": 4}
MLSM = {"name": "mlsm", "terms": [{"name": "atoms", "dictionary": DICTIONARY}, "token"]}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_timing_changes_no_weight_and_leaves_no_gradient(raw_recipe, corpus, optimizer):
    recipe = parse_recipe({**raw_recipe, "optimizer": {"name": optimizer, "weight_decay": 0.1}}, "test")
    models = build_models(recipe, corpus.vocabulary)
    model = models[0]
    before = {name: tensor.clone() for name, tensor in model.tensors().items()}
    seconds = timing.seconds_of_steps(recipe, corpus, models, decide_engine(recipe, Ranks()), Ranks())
    assert len(seconds) == 2
    assert min(seconds) > 0
    for name, tensor in model.tensors().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for _, parameter in model.named_parameters())


def test_a_phase_that_must_be_begun_is_judged_by_its_flops(raw_recipe, corpus, monkeypatch):
    phases = [raw_recipe["phases"][0], {**raw_recipe["phases"][0], "objective": MLSM}]
    recipe = parse_recipe({**raw_recipe, "phases": phases}, "test")
    models = build_models(recipe, corpus.vocabulary)
    names = []

    def one_second_each(recipe, timed, batches, engine, ranks, phase, least_seconds, summarize):
        names.append(type(timed.objective).__name__)
        return 1.0

    monkeypatch.setattr(timing, "_seconds_of_step", one_second_each)
    seconds = timing.seconds_of_steps(recipe, corpus, models, decide_engine(recipe, Ranks()), Ranks())
    assert names == ["Mlm", "Mlm"]
    mlm, mlsm = phase_flops_per_token(recipe, models)
    assert seconds == pytest.approx([1.0, mlsm / mlm])


@pytest.mark.parametrize("compiled", [False, True])
def test_hours_are_judged_by_steps_as_they_will_be_made(raw_recipe, corpus, tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(plan, "_effective", lambda _: 1.0)
    asked = []
    monkeypatch.setattr(
        plan, "seconds_of_steps", lambda *a: asked.append((a[3].compiled, a[3].cross_entropy)) or [0.5, 1.0]
    )
    engine = raw_recipe["engine"] | {"compile": "on" if compiled else "off"}
    recipe = parse_recipe({**raw_recipe, "budget": {"hours": 9 / 3600}, "engine": engine}, "test")
    run = assemble_run(recipe, corpus, RunFolder(tmp_path), Ranks(), {})
    assert asked == [(compiled, run.engine.cross_entropy)]
    assert run.course.phase_steps == (12, 3)


def test_only_long_runs_are_compiled(raw_recipe, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "seconds_of_steps", lambda *_: [0.1, 0.1])
    monkeypatch.setattr(plan, "can_compile", lambda _: True)
    engine = raw_recipe["engine"] | {"compile": "auto"}
    for minutes, is_compiled in ((9, False), (11, True)):
        recipe = parse_recipe({**raw_recipe, "budget": {"hours": minutes / 60}, "engine": engine}, "test")
        assert len(recipe.phases) == 2
        run = assemble_run(recipe, corpus, RunFolder(tmp_path / str(minutes)), Ranks(), {})
        assert run.engine.compiled == is_compiled


def test_steps_are_timed_for_as_long_as_asked(raw_recipe, corpus, monkeypatch):
    recipe = parse_recipe({**raw_recipe, "phases": raw_recipe["phases"][:1]}, "test")
    models, engine = build_models(recipe, corpus.vocabulary), decide_engine(recipe, Ranks())
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))

    def num_timed(least_seconds: float) -> int:
        begin = next(clock)
        seconds = timing.seconds_of_steps(recipe, corpus, models, engine, Ranks(), least_seconds)
        assert seconds == [1.0]  # two looks at the clock a step
        return (next(clock) - begin - 1) // 2 - 1  # without the one that warms up

    assert num_timed(0.0) == 3
    assert num_timed(2.0) == 3
    assert num_timed(7.0) == 7


@pytest.mark.parametrize(("hours", "asked"), [(0.1, 7.2), (100, 60.0)])
def test_a_fiftieth_of_the_hours_is_timed_a_minute_at_most(raw_recipe, corpus, tmp_path, monkeypatch, hours, asked):
    patience = []
    monkeypatch.setattr(plan, "seconds_of_steps", lambda *a: patience.append(a[5]) or [1.0, 1.0])
    recipe = parse_recipe({**raw_recipe, "budget": {"hours": hours}, "probes": {"max_share": None}}, "test")
    assemble_run(recipe, corpus, RunFolder(tmp_path), Ranks(), {})
    assert patience == [pytest.approx(asked)]


def test_hours_too_short_for_a_step_of_every_phase_are_refused_with_the_least_that_works(
    raw_recipe, corpus, monkeypatch
):
    monkeypatch.setattr(plan, "seconds_of_steps", lambda *_: [1.0, 3.6])
    monkeypatch.setattr(plan, "_effective", lambda _: 1.0)  # what FLOPs let expect is slower than that
    phases = [{"sequence_length": 32, "share": 3}, {"sequence_length": 32, "share": 1}]
    raw = {**raw_recipe, "phases": phases, "budget": {"hours": 0.003}}
    with pytest.raises(RecipeError, match=r"too short for one step of every phase.*\n.*0\.004 hours or more"):
        plan.plan_run(parse_recipe(raw, "test"), corpus)
    raw["budget"] = {"hours": 0.0041}
    assert min(plan.plan_run(parse_recipe(raw, "test"), corpus).course.phase_steps) == 1


def test_a_machine_that_is_busy_when_it_is_timed_is_planned_by_flops(raw_recipe, corpus, monkeypatch):
    recipe = parse_recipe({**raw_recipe, "budget": {"hours": 1}}, "test")
    monkeypatch.setattr(plan, "seconds_of_steps", lambda *_: [100.0, 100.0])
    assert sum(plan.plan_run(recipe, corpus).course.phase_steps) > 360


def test_a_run_whose_steps_are_counted_on_keeps_the_first_measurement(raw_recipe, corpus, monkeypatch):
    monkeypatch.setattr(plan, "seconds_of_steps", lambda *a: [a[-1]([90.0, 100.0, 120.0])])
    phase = {"objective": {"name": "mlm", "strategy": "adaptive"}, "sequence_length": 32}
    recipe = parse_recipe({**raw_recipe, "budget": {"hours": 1}, "phases": [phase]}, "test")
    found = plan.plan_run(recipe, corpus)
    assert found.course.phase_steps == (36,) and not found.record.keeps_hours
