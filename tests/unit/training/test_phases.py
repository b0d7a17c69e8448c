"""How a phase begins: what its objective is given, and what it takes over of the phase before."""

import pytest
import torch

from maskwright.core.errors import RecipeError
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.training.phases import PhaseRun, enter_phase, open_phase, phase_start
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import Run, assemble_run

LATE = {"name": "late_mask", "rate": 0.5}
ATOMS = {"name": "own_atoms", "refresh_steps": 2, "dictionary": {"num_atoms": 12, "num_states": 99, "num_tokens": 99}}


@pytest.fixture
def run_of(raw_recipe, corpus, tmp_path):
    """Return a function from phases to a run of them, four steps each, before its first step."""

    def assemble(*phases: dict[str, object]) -> Run:
        raw = raw_recipe | {"phases": [{"sequence_length": 32, **phase} for phase in phases]}
        raw["budget"] = {"steps": 4 * len(phases)}
        return assemble_run(parse_recipe(raw, "test"), corpus, RunFolder(tmp_path), Ranks(), {})

    return assemble


def learned(run: Run) -> PhaseRun:
    """Return the first phase after an update of every weight."""
    phase = open_phase(run, 0, run.models[0])
    for _, parameter in phase.model.named_parameters():
        parameter.grad = torch.ones_like(parameter)
    phase.optimizers.step(1e-2)
    return phase


def difference(before: PhaseRun, after: PhaseRun) -> set[str]:
    """Return the tensors of the later phase's model that are not those of the earlier one."""
    old = before.model.tensors()
    return {
        name for name, tensor in after.model.tensors().items() if name not in old or not torch.equal(tensor, old[name])
    }


def stateful(phase: PhaseRun) -> set[str]:
    return {path.split("/")[1] for path in phase.optimizers.state_tensors()}


@pytest.mark.parametrize(("step", "index", "was_begun"), [(0, 0, False), (3, 0, True), (4, 1, False), (7, 1, True)])
def test_an_objective_is_told_its_phase_and_whether_it_was_begun(run_of, step, index, was_begun):
    run = run_of({}, {"batch": {"tokens": 256, "micro_batch_tokens": 128}})
    phase = learned(run)
    before = phase if index else None
    phase = enter_phase(run, phase) if index else phase
    start = phase_start(run, phase, step, before)
    assert (start.folder, start.num_steps, start.was_begun) == (run.folder.phase(index), 4, was_begun)
    assert start.micro_batch_tokens == (128 if index else 256)
    assert start.model_before().encoder is phase.model.encoder, "which did not change"


def test_the_model_before_is_that_of_before_the_encoder_grew(run_of):
    run = run_of({}, {"encoder": {"overrides": {"num_layers": 4}}})
    before = learned(run)
    after = enter_phase(run, before)
    assert phase_start(run, after, 4, before).model_before().encoder is before.model.encoder
    like = phase_start(run, after, 6, None).model_before().encoder
    assert len(like.blocks) == 2 and like is not before.model.encoder


def test_a_checkpoint_belongs_before_a_phase_that_makes_something(run_of):
    adaptive = {"objective": {"name": "mlm", "strategy": {"name": "adaptive", "refresh_steps": 3}}}
    run = run_of({}, adaptive, {"weights": "fresh"})
    first = learned(run)
    second = enter_phase(run, first)
    third = enter_phase(run, second)
    assert [phase.is_prepared for phase in (first, second, third)] == [False, True, True]


def test_what_fits_goes_on_weights_and_state_alike(run_of):
    run = run_of({"objective": LATE}, {"objective": LATE | {"rate": 0.3}})
    before = learned(run)
    after = enter_phase(run, before)
    assert not difference(before, after) and stateful(after) == stateful(before)
    states = before.optimizers.state_tensors(), after.optimizers.state_tensors()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert after.model.objective is not before.model.objective


def test_a_part_of_another_shape_begins_anew_as_a_whole(run_of):
    run = run_of({"objective": LATE}, {"objective": LATE | {"decoder_layers": 1}})
    before = learned(run)
    after = enter_phase(run, before)
    changed = difference(before, after)
    assert changed and all(name.startswith("objective.decoder.") for name in changed)
    assert not any(name.startswith("objective.") for name in stateful(after))


def test_a_term_goes_on_in_another_objective(run_of):
    run = run_of({"objective": {"name": "mlm", "terms": ["token", ATOMS]}}, {"objective": LATE | {"terms": [ATOMS]}})
    before = learned(run)
    after = enter_phase(run, before)
    assert all(name.startswith("objective.decoder.") for name in difference(before, after))


@pytest.mark.parametrize(("keep", "goes_on"), [(["decoder"], True), ([], False), (None, True)])
def test_keep_says_which_parts_go_on(run_of, keep, goes_on):
    run = run_of({"objective": LATE}, {"objective": LATE, **({} if keep is None else {"keep": keep})})
    before = learned(run)
    after = enter_phase(run, before)
    assert bool(difference(before, after)) is not goes_on


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"objective": LATE, "keep": ["decodr"]}, "'decodr' is no part of both objectives"),
        ({"objective": "mlm", "keep": ["decoder"]}, "'decoder' is no part of both objectives"),
        ({"objective": LATE | {"decoder_layers": 1}, "keep": ["decoder"]}, "decoder has other weights in this phase"),
        ({"freeze": [3]}, "3 blocks, the encoder has 2"),
        (
            {
                "encoder": {"overrides": {"num_layers": 4}},
                "objective": {
                    "name": "mlsm",
                    "terms": [{"name": "atoms", "layer": 3, "dictionary": ATOMS["dictionary"]}],
                },
            },
            "layer 3 of an encoder with 2 layers",
        ),
    ],
)
def test_what_a_phase_could_not_do_is_refused_before_the_first(run_of, second, message):
    with pytest.raises(RecipeError, match=f"phase 2: .*{message}"):
        run_of({"objective": LATE}, second)


def test_fresh_weights_are_a_function_of_seed_and_phase_and_forget_past_updates(run_of):
    run = run_of({"objective": LATE}, {"objective": LATE, "weights": "fresh"})
    before = learned(run)
    other = run_of({"objective": LATE}, {"objective": LATE, "weights": "fresh"})
    one, two = enter_phase(run, before), enter_phase(other, open_phase(other, 0, other.models[0]))
    assert not difference(one, two), "whatever was learned before"
    assert not stateful(one)
    first = other.models[0].encoder.embedding_weight_VE
    assert not torch.equal(one.model.encoder.embedding_weight_VE, first), "not those of the first phase again"


def test_fresh_weights_may_have_another_shape_and_keep_what_is_named(run_of):
    narrow = {"hidden_size": 16, "feed_forward_size": 24}
    run = run_of({}, {"weights": "fresh", "encoder": {"overrides": narrow}})
    after = enter_phase(run, learned(run))
    assert after.model.encoder.embedding_weight_VE.shape[1] == 16
    run = run_of({"objective": LATE}, {"objective": LATE, "weights": "fresh", "keep": ["decoder"]})
    before = learned(run)
    after = enter_phase(run, before)
    assert not any(name.startswith("objective.decoder") for name in difference(before, after))


@pytest.mark.parametrize("new_blocks", ["stack", "copy", "zero"])
def test_a_grown_encoder_goes_on_with_what_was_learned(run_of, new_blocks, batch):
    run = run_of({}, {"encoder": {"overrides": {"num_layers": 4}, "new_blocks": new_blocks}})
    before = learned(run)
    after = enter_phase(run, before)
    old, new = before.model.encoder, after.model.encoder
    position = {"stack": [0, 1], "copy": [0, 2], "zero": [0, 2]}[new_blocks]
    for now, then in zip(position, range(2), strict=True):
        for name, tensor in old.blocks[then].state_dict().items():
            assert torch.equal(new.blocks[now].state_dict()[name], tensor)
    assert after.model.vocabulary_head is before.model.vocabulary_head
    # Updates are remembered where weights are those that were updated.
    remembered = {name for name in stateful(after) if name.startswith("encoder.blocks.")}
    assert {int(name.split(".")[2]) for name in remembered} == set(position)
    with torch.no_grad():
        ours, others = new.eval()(batch.input), old.eval()(batch.input)
    if new_blocks == "zero":
        torch.testing.assert_close(ours, others, atol=1e-6, rtol=0)
    else:
        assert (ours - others).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_layers": 1}, "num_layers goes from 2 down to 1"),
        ({"hidden_size": 16, "feed_forward_size": 24}, "token_embedding.weight would have another shape"),
        ({"decoder_bias": False}, "decoder_bias would have another shape"),
        ({"num_layer": 4}, "no option 'num_layer', did you mean 'num_layers'"),
    ],
)
def test_what_can_not_grow_is_refused_when_the_recipe_is_read(run_of, overrides, message):
    with pytest.raises(RecipeError, match=f"phases.1.encoder: .*{message}"):
        run_of({}, {"encoder": {"overrides": overrides}})


@pytest.mark.parametrize(
    ("family", "message"), [("bert", "a BertBlock can't give back its input"), ("albert", "are one and the same")]
)
def test_blocks_that_can_not_give_back_their_input_are_refused(raw_recipe, family, message):
    raw_recipe["encoder"] = {"family": family, "size": "tiny"}
    raw_recipe["phases"] = [{}, {"encoder": {"overrides": {"num_layers": 9}, "new_blocks": "zero"}}]
    raw_recipe["batch"] = {"tokens": 256, "micro_batch_tokens": 256}
    with pytest.raises(RecipeError, match=message):
        parse_recipe(raw_recipe, "test")


def test_what_came_before_the_first_phase_is_refused(run_of):
    with pytest.raises(RecipeError, match=r"phases\.0\.encoder: nothing comes before") as caught:
        run_of({"encoder": {"overrides": {"num_layers": 4}}, "keep": []})
    assert "phases.0.keep" in caught.value.got
