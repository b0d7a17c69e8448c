"""What decides which weights are best: the objective's own terms on held-out text, by hand and over several ranks."""

from dataclasses import dataclass, field

import pytest
import torch

from maskwright.batching.row_stream import RowStream
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.objectives.mixture import Mixture
from maskwright.training.model import Model, build_model
from maskwright.training.recipe.recipe import Recipe, parse_recipe
from maskwright.training.watching.held_out_loss import HeldOutLoss

TOKENS = 320
"""Ten rows of 32, in micro-batches of four rows: the last has two."""


def recipe_of(raw, *objectives, **changes) -> Recipe:
    phases = [{"objective": objective, "sequence_length": 32} for objective in objectives]
    batch = {"tokens": 512, "micro_batch_tokens": 128}
    probes = {"every_steps": 1, "tokens": TOKENS, "max_share": None}
    return parse_recipe({**raw, "phases": phases, "batch": batch, "probes": probes, **changes}, "test")


@dataclass(frozen=True)
class OneOfTwo(Ranks):
    """One of two processes; the sums of the other are handed over between two calls."""

    mine: list[list[float]] = field(default_factory=list)
    of_the_other: list[list[float]] = field(default_factory=list)

    def sum(self, values, device):
        self.mine.append(values)
        other = self.of_the_other[len(self.mine) - 1] if self.of_the_other else [0.0] * len(values)
        return [one + two for one, two in zip(values, other, strict=True)]


@pytest.fixture
def model(raw_recipe, corpus) -> Model:
    return build_model(recipe_of(raw_recipe, "mlm"), corpus.vocabulary)


def test_it_is_the_mean_over_the_held_out_rows_at_the_rate_where_the_phase_ends(raw_recipe, corpus):
    recipe = recipe_of(raw_recipe, {"name": "mlm", "rate": {"start": 0.5, "end": 0.2}})
    model = build_model(recipe, corpus.vocabulary)
    objective = model.objective
    stream = RowStream(corpus.split("held_out"), corpus.vocabulary, 32, recipe.seed)
    total, count = 0.0, 0
    for number, num_rows in enumerate((4, 4, 2)):
        packed = stream.batch(4 * number, num_rows)
        batch = objective.corrupt(packed, torch_generator(recipe.seed, "held_out_loss", number), 1.0)
        (term,) = objective.eval().loss(model.encoder.eval(), batch)
        total, count = total + float(term.total.detach()), count + int(term.count)
        assert int(term.count) == round(0.2 * int(objective.is_text(packed).sum()))
    found = HeldOutLoss(recipe, corpus, Ranks())(model, 0, torch.float32)
    assert found == {"held_out_loss": pytest.approx(total / count), "held_out_token": pytest.approx(total / count)}


def test_two_ranks_find_what_one_does(raw_recipe, corpus, model):
    recipe = recipe_of(raw_recipe, "mlm")
    alone = HeldOutLoss(recipe, corpus, Ranks())(model, 0, torch.float32)
    both = [OneOfTwo(rank, 2) for rank in (0, 1)]
    for rank in both:
        HeldOutLoss(recipe, corpus, rank)(model, 0, torch.float32)
    first, second = (rank.mine for rank in both)
    assert [len(sums) for sums in first] == [len(sums) for sums in second]
    found = HeldOutLoss(recipe, corpus, OneOfTwo(0, 2, [], second))(model, 0, torch.float32)
    assert found == pytest.approx(alone, rel=1e-6)


def test_a_rank_without_a_micro_batch_takes_part(raw_recipe, corpus, model):
    recipe = recipe_of(raw_recipe, "mlm")
    idle = OneOfTwo(7, 8)
    assert HeldOutLoss(recipe, corpus, idle)(model, 0, torch.float32)["held_out_loss"] == 0.0
    assert len(idle.mine) == 3


def test_terms_are_weighted_and_what_follows_the_model_decides_nothing(raw_recipe, corpus, encoder, vocabulary_head):
    dictionary = {"num_atoms": 12, "num_states": 300, "num_tokens": 600, "num_updates": 5}
    own = {"name": "own_atoms", "refresh_steps": 3, "dictionary": dictionary}
    recipe = recipe_of(raw_recipe, {"name": "mlsm", "terms": [{"name": "token", "weight": 2.0}, own]})
    objective = build_model(recipe, corpus.vocabulary).objective
    assert objective.compared_terms == {"token"}
    alone = recipe_of(raw_recipe, {"name": "mlsm", "terms": [own]})
    assert build_model(alone, corpus.vocabulary).objective.compared_terms == {"own_atoms"}
    plain = recipe_of(raw_recipe, {"name": "mlm", "terms": [{"name": "token", "weight": 2.0}]})
    found = HeldOutLoss(plain, corpus, Ranks())(build_model(plain, corpus.vocabulary), 0, torch.float32)
    assert found["held_out_loss"] == pytest.approx(2 * found["held_out_token"])
    parts = [{"objective": "mlm"}, {"objective": {"name": "mlsm", "terms": [own]}}]
    mixture = Mixture(Mixture.Config(parts=parts), encoder, corpus.vocabulary, vocabulary_head)
    assert mixture.compared_terms == {"token", "own_atoms"}


def test_losses_of_other_terms_other_rows_or_fresh_weights_do_not_compare(raw_recipe):
    def measured_anew(*phases):
        return recipe_of({**raw_recipe}, phases=[{"sequence_length": 16, **phase} for phase in phases]).measured_anew

    half = {"objective": {"name": "mlm", "rate": 0.5}}
    assert measured_anew({}, {"share": 2}, {"schedule": "fresh"}) == ()
    assert measured_anew({}, half, half) == (1,)
    assert measured_anew({}, {"sequence_length": 32}, {"sequence_length": 32, "weights": "fresh"}) == (1, 2)
    assert measured_anew(half, half, {"objective": {"name": "late_mask", "rate": 0.5}}) == (2,)
