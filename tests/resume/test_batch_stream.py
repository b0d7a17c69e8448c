"""The batches of a step are the same whatever the number of ranks, and wherever one begins."""

import pytest
import torch

from maskwright.core.errors import RecipeError
from maskwright.core.ranks import Ranks
from maskwright.training.model import build_models
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course

COURSE = Course((8, 4))


@pytest.fixture
def stream(raw_recipe, corpus):
    recipe = parse_recipe({**raw_recipe, "batch": {"tokens": 512, "micro_batch_tokens": 128}}, "test")
    objectives = [model.objective for model in build_models(recipe, corpus.vocabulary)]

    def of_rank(rank: int = 0, num_ranks: int = 1):
        """Return one rank's function from a step to its micro-batches by number."""
        batches = StepBatches(recipe, corpus, COURSE, Ranks(rank, num_ranks))

        def numbered(step: int):
            phase = COURSE.position_of(step).phase
            return dict(zip(batches.numbers(phase), batches(step, objectives[phase]), strict=True))

        return numbered

    return of_rank


def test_ranks_share_out_the_same_global_batch(stream):
    alone = stream()
    for num_ranks in (2, 4):
        shared = [stream(rank, num_ranks) for rank in range(num_ranks)]
        for step in range(COURSE.num_steps):
            together = {}
            for part in shared:
                together |= part(step)
            for number, batch in alone(step).items():
                assert torch.equal(batch.input.token_ids_T, together[number].input.token_ids_T)
                assert torch.equal(batch.questions["token"].targets, together[number].questions["token"].targets)


def test_a_step_is_the_same_wherever_reading_begins(stream):
    straight = [stream()(step) for step in range(COURSE.num_steps)]
    for step in reversed(range(COURSE.num_steps)):
        for number, batch in stream()(step).items():
            assert torch.equal(batch.input.token_ids_T, straight[step][number].input.token_ids_T)


def test_a_phase_goes_on_in_the_text_where_the_one_before_it_ended(raw_recipe, corpus):
    """So that a run in two phases reads what a run in one reads, in that order; phases of other rows don't count."""
    phase, other = raw_recipe["phases"]

    def token_ids(phases, course):
        recipe = parse_recipe({**raw_recipe, "phases": phases}, "test")
        objective = build_models(recipe, corpus.vocabulary)[0].objective  # of every phase: the text is what counts
        batches = StepBatches(recipe, corpus, course, Ranks())
        return [restored(batches(step, objective)[0]) for step in range(course.num_steps)]

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
    batches = [batch for step in range(4) for batch in stream()(step).values()]
    positions = {tuple(batch.questions["token"].positions_M.tolist()) for batch in batches}
    assert len(positions) == len(batches)


def test_micro_batches_that_cannot_be_shared_out_are_refused():
    with pytest.raises(RecipeError, match="multiple of the number of processes"):
        Ranks(0, 3).own_micro_batches(4)
