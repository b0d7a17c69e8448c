"""The batches of a step are the same whatever the number of ranks, and wherever one begins."""

import pytest
import torch

from maskwright.core.errors import RecipeError
from maskwright.core.ranks import Ranks
from maskwright.training.model import build_model
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course

COURSE = Course((8, 4))


@pytest.fixture
def stream(raw_recipe, corpus):
    recipe = parse_recipe({**raw_recipe, "batch": {"tokens": 512, "micro_batch_tokens": 128}}, "test")
    model = build_model(recipe, corpus.vocabulary, None)
    return lambda numbers: StepBatches(recipe, corpus, model, COURSE, numbers)


def test_ranks_share_out_the_same_global_batch(stream):
    alone = stream(Ranks().own_micro_batches(4))
    for num_ranks in (2, 4):
        shared = [stream(Ranks(rank, num_ranks).own_micro_batches(4)) for rank in range(num_ranks)]
        for step in range(COURSE.num_steps):
            together = {}
            for part in shared:
                together |= dict(zip(part.numbers, part(step), strict=True))
            for number, batch in enumerate(alone(step)):
                assert torch.equal(batch.input.token_ids_T, together[number].input.token_ids_T)
                assert torch.equal(batch.questions["token"].targets, together[number].questions["token"].targets)


def test_a_step_is_the_same_wherever_reading_begins(stream):
    straight = [stream(range(4))(step) for step in range(COURSE.num_steps)]
    for step in reversed(range(COURSE.num_steps)):
        for one, other in zip(stream(range(4))(step), straight[step], strict=True):
            assert torch.equal(one.input.token_ids_T, other.input.token_ids_T)


def test_a_phase_goes_on_in_the_text_where_the_one_before_it_ended(raw_recipe, corpus):
    """So that a run in two phases reads what a run in one reads, in that order; phases of other rows don't count."""
    phase, other = raw_recipe["phases"]

    def token_ids(phases, course):
        recipe = parse_recipe({**raw_recipe, "phases": phases}, "test")
        model = build_model(recipe, corpus.vocabulary, None)
        batches = StepBatches(recipe, corpus, model, course, range(1))
        return [restored(batches(step)[0]) for step in range(course.num_steps)]

    def restored(batch):
        ids_T = batch.input.token_ids_T.clone()
        question = batch.questions["token"]
        ids_T[question.positions_M] = question.targets
        return ids_T

    straight = token_ids([phase], Course((6,)))
    parts = token_ids([phase, other, phase], Course((4, 3, 2)))
    for one, same in zip(parts[:4] + parts[7:], straight, strict=True):
        assert torch.equal(one, same)
    assert torch.equal(parts[4], token_ids([phase, other], Course((1, 1)))[1])


def test_no_two_micro_batches_hide_the_same_positions(stream):
    batches = [batch for step in range(4) for batch in stream(range(4))(step)]
    positions = {tuple(batch.questions["token"].positions_M.tolist()) for batch in batches}
    assert len(positions) == len(batches)


def test_micro_batches_that_cannot_be_shared_out_are_refused():
    with pytest.raises(RecipeError, match="multiple of the number of processes"):
        Ranks(0, 3).own_micro_batches(4)
