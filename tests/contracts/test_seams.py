"""The contract carries what the field's objectives need: toys in the shape of ELECTRA, sentence order, hybrids ...

Each is written as a user would write it, outside the package, and trained through the step of the engine.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForPreTraining, ElectraForMaskedLM, ElectraForPreTraining

from maskwright.core.batches import (
    UNUSED,
    CorruptedBatch,
    EncoderInput,
    Movable,
    Question,
    Reading,
    ask,
    asked_positions,
    groups_of,
    in_slots,
)
from maskwright.core.errors import ExportError
from maskwright.core.plug_in_field import Chosen
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.encoders.build import build_encoder
from maskwright.export import export_model, require_exportable
from maskwright.export.families.electra import Electra as ElectraExporter
from maskwright.heads.model_heads import ModelHeads
from maskwright.heads.transform import Transform
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.masking.corruption import Corruption
from maskwright.models.companion import Companion
from maskwright.objectives.base import Objective, ObjectiveConfig
from maskwright.objectives.masked import MaskedConfig, MaskedObjective
from maskwright.objectives.mixture import Mixture
from maskwright.objectives.terms.base import Term
from maskwright.objectives.terms.token import Token
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run
from maskwright.training.step import PhaseModel, Stepper

CPU = torch.device("cpu")
SIZES = {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}


def chosen(term: type[Term]) -> Chosen[Term]:
    return Chosen(f"{__name__}:{term.__name__}", term, term.Config())


class YesOrNoHead(nn.Module):
    """ELECTRA's: two dense layers, one logit."""

    def __init__(self, width):
        super().__init__()
        self.dense, self.prediction = nn.Linear(width, width), nn.Linear(width, 1)

    def initialize(self, generator):
        for layer in (self.dense, self.prediction):
            nn.init.normal_(layer.weight, std=0.02, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, x_MD):
        return self.prediction(F.gelu(self.dense(x_MD))).squeeze(1)


class YesOrNo(Term):
    """A binary question at some positions, with a head of its own."""

    citation = "a toy"

    def __init__(self, config, encoder, vocabulary):
        super().__init__(config, encoder, vocabulary)
        self.head = YesOrNoHead(encoder.config.hidden_size)

    def initialize(self, generator):
        self.head.initialize(generator)

    def loss(self, x_MD, question, heads):
        each_M = F.binary_cross_entropy_with_logits(
            self.head(x_MD).float(), question.targets.clamp(min=0).float(), reduction="none"
        )
        return self.answer(question, (each_M * (question.targets != UNUSED)).sum())

    def logits_per_slot(self):
        return 1

    def flops_per_token(self, config, sequence_length, rate):
        return 6.0 * config.hidden_size


# --- two networks, two counts: replaced tokens


class Detection(YesOrNo):
    """Which of all text tokens were replaced; only reading can tell."""

    def ask(self, packed, corruption, generator, progress):
        positions = (~torch.isin(packed.token_ids_T, torch.tensor(self.vocabulary.special_ids))).nonzero().squeeze(1)
        return ask(positions, torch.zeros_like(positions), len(packed.token_ids_T))

    def exported_heads(self):
        return {"detection": self.head}


@dataclass(frozen=True)
class NoisyBatch(CorruptedBatch):
    """A batch with the random numbers by which the generator's tokens will be drawn; uniform [M]."""

    noise_M: Tensor


class ReplacedToken(MaskedObjective):
    """A small generator fills the masks, and the encoder finds its tokens."""

    citation = "a toy"
    mask_reader = "no"

    def __init__(self, config, encoder, vocabulary, vocabulary_head):
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self.generator = Companion(encoder, width=0.5)

    def initialize(self, generator):
        super().initialize(generator)
        self.generator.initialize(generator)

    @classmethod
    def chosen_terms(cls, options):
        return chosen(Token), chosen(Detection)

    def corrupt(self, packed, generator, progress):
        batch = super().corrupt(packed, generator, progress)
        noise_M = torch.rand(len(batch.questions["Token"].positions_M), generator=generator)
        return NoisyBatch(**vars(batch), noise_M=noise_M)

    def heads_of(self, name, heads):
        return ModelHeads(self.generator.head, heads.embedding_VE) if name == "Token" else heads

    @property
    def trains_vocabulary_head(self):
        return False  # the generator has one of its own

    def read(self, encoder, batch):
        token, detection = batch.questions["Token"], batch.questions["Detection"]
        x_MD = self.generator(batch.input, encoder.embedding_weight_VE, token.positions_M)
        with torch.no_grad():
            logits_MV = self.generator.head(x_MD, encoder.embedding_weight_VE).float()
        drawn_M = (logits_MV.softmax(1).cumsum(1) < batch.noise_M[:, None]).sum(1).clamp(max=logits_MV.shape[1] - 1)
        is_used_M = token.targets != UNUSED
        # One position more, where what unused slots would write ends up.
        clean_T = batch.clean.token_ids_T
        target_M = torch.where(is_used_M, token.positions_M, len(clean_T))
        token_ids_T = torch.cat([clean_T, clean_T[:1]]).index_copy(0, target_M, drawn_M)[: len(clean_T)]
        is_replaced_T = (token_ids_T != clean_T).long()
        labels_M = is_replaced_T[detection.positions_M].where(detection.targets != UNUSED, UNUSED)
        x_PD = encoder(replace(batch.input, token_ids_T=token_ids_T), detection.positions_M)
        questions = {"Token": token, "Detection": replace(detection, targets=labels_M)}
        return Reading({"Token": x_MD, "Detection": x_PD}, questions)

    def outcome(self, encoder):
        """The vocabulary head reads the generator, so it does not go with the encoder."""
        return replace(super().outcome(encoder), heads=self.term("Detection").exported_heads())


# --- two positions an answer: span boundaries, by the decoder of the vocabulary head


@dataclass(frozen=True)
class WithinUnit(Movable):
    """A hidden token, and its number among those of its unit."""

    token_ids_M: Tensor
    numbers_M: Tensor


class SpanBoundary(Term):
    """Each token of a hidden unit from the two tokens around the unit, and its number within (SpanBERT's SBO)."""

    citation = "a toy"
    most_tokens = 10

    def __init__(self, config, encoder, vocabulary):
        super().__init__(config, encoder, vocabulary)
        width = encoder.config.hidden_size
        self.join = nn.Linear(2 * width + 8, width)
        self.number = nn.Embedding(self.most_tokens, 8)
        self.transform = Transform(encoder.config, encoder.config.embedding_width)
        self.transform.to_empty(device="cpu")

    def initialize(self, generator):
        for weight in (self.join.weight, self.number.weight):
            nn.init.normal_(weight, std=0.02, generator=generator)
        nn.init.zeros_(self.join.bias)
        self.transform.initialize(generator)

    def ask(self, packed, corruption, generator, progress):
        positions, is_hidden_T = corruption.positions, torch.zeros(len(packed.token_ids_T), dtype=torch.bool)
        is_hidden_T[positions] = True
        index_T = torch.arange(len(is_hidden_T))
        begins_T = is_hidden_T & ~is_hidden_T.roll(1)
        first_T = torch.where(begins_T, index_T, 0).cummax(0).values
        last_T = (
            torch.where(is_hidden_T & ~is_hidden_T.roll(-1), index_T, len(index_T)).flip(0).cummin(0).values.flip(0)
        )
        slots = len(corruption.positions_M)
        sides = [in_slots(side[positions], slots, 0) for side in (first_T - 1, last_T + 1)]
        numbers = (positions - first_T[positions]).clamp(max=self.most_tokens - 1)
        within = WithinUnit(in_slots(packed.token_ids_T[positions], slots, UNUSED), in_slots(numbers, slots, 0))
        return Question(torch.cat(sides), within, torch.tensor(len(positions)))

    def loss(self, x_MD, question, heads):
        states = [*x_MD.chunk(2), self.number(question.targets.numbers_M)]
        y_ME = self.transform(F.gelu(self.join(torch.cat(states, 1))))
        return self.answer(
            question, heads.decoder.cross_entropy(y_ME, question.targets.token_ids_M, heads.embedding_VE)
        )

    def logits_per_slot(self):
        return self.vocabulary.size

    def flops_per_token(self, config, sequence_length, rate):
        return 6.0 * rate * config.hidden_size * config.vocabulary_size


# --- pairs: an order that is changed, a label that is asked of [CLS]


class Order(YesOrNo):
    """Whether the halves of a sequence stand in their order; asked of [CLS], of a fixed number of sequences."""

    def ask(self, packed, corruption, generator, progress):
        return corruption.orders


@dataclass(frozen=True)
class Swapped(Corruption):
    """A corruption that knows which sequences were turned around."""

    orders: Question


class SentenceOrder(Objective):
    """Turns half of the sequences around: what the encoder reads differs in order and in segments."""

    citation = "a toy"
    Config = ObjectiveConfig

    @classmethod
    def chosen_terms(cls, options):
        return (chosen(Order),)

    def corrupt(self, packed, generator, progress):
        layout, token_ids_T = packed.layout, packed.token_ids_T.clone()
        segment_ids_T = torch.zeros_like(layout.segment_ids_T)
        starts, is_text_S = layout.sequence_starts, packed.document_ids_S >= 0
        firsts, labels = [], []
        for sequence in is_text_S.nonzero().squeeze(1).tolist():
            begin, end = int(starts[sequence]) + 1, int(starts[sequence + 1]) - 1
            middle, is_swapped = (begin + end) // 2, bool(torch.rand((), generator=generator) < 0.5)
            if is_swapped:
                halves = packed.token_ids_T[middle:end], packed.token_ids_T[begin:middle]
                token_ids_T[begin:end] = torch.cat(halves)
                middle = begin + end - middle
            segment_ids_T[middle : end + 1] = 1
            firsts.append(begin - 1)
            labels.append(int(is_swapped))
        num_slots = len(token_ids_T) // 4  # more sequences than that there can't be
        orders = ask(torch.tensor(firsts), torch.tensor(labels), num_slots)
        changed = replace(packed.input, token_ids_T=token_ids_T, layout=replace(layout, segment_ids_T=segment_ids_T))
        swapped = Swapped(changed, torch.tensor(firsts), orders.positions_M, ~self.is_text(packed), orders)
        return self.asked(packed, swapped, generator, progress)

    def scored_share(self):
        return 0.25


# --- two directions in one batch, and the next token


class NextToken(Token):
    """The token that follows, in causal sequences."""


class Hybrid(Objective):
    """Sequences of odd rows are causal and predict what comes next; the others are masked."""

    citation = "a toy"
    Config = MaskedConfig

    def __init__(self, config, encoder, vocabulary, vocabulary_head):
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self.masked = MaskedObjective.__new__(MaskedObjective)
        MaskedObjective.__init__(self.masked, config, encoder, vocabulary, vocabulary_head)

    @classmethod
    def chosen_terms(cls, options):
        return chosen(Token), chosen(NextToken)

    def corrupt(self, packed, generator, progress):
        layout = packed.layout
        is_causal_S = (layout.sequence_starts[:-1] // layout.row_length) % 2 == 1
        is_causal_T = is_causal_S[layout.sequence_index_T.long()]
        hidden = self.masked.hide(packed, generator, progress)
        is_text_T, num_tokens = self.is_text(packed), len(packed.token_ids_T)
        token_ids_T = torch.where(is_causal_T, packed.token_ids_T, hidden.input.token_ids_T)
        asked = hidden.positions[~is_causal_T[hidden.positions]]
        has_next_T = is_causal_T & torch.cat([is_text_T[1:], torch.tensor([False])])
        before = has_next_T.nonzero().squeeze(1)
        questions = {
            "Token": ask(asked, packed.token_ids_T[asked], num_tokens // 2),
            "NextToken": ask(before, packed.token_ids_T[before + 1], num_tokens),
        }
        changed = replace(packed.input, token_ids_T=token_ids_T, layout=replace(layout, is_causal_S=is_causal_S))
        return CorruptedBatch(changed, questions, packed, groups_of(questions))

    def scored_share(self):
        return 1.0


class SpanBert(MaskedObjective):
    """Spans, and what lies around them."""

    citation = "a toy"

    @classmethod
    def chosen_terms(cls, options):
        return chosen(Token), chosen(SpanBoundary)


# --- two views of a text, which are to be told from the other texts of the batch


class SameText(Term):
    """Which of the other views, of all ranks, is of the same text: by the cosines of [CLS] over a temperature."""

    citation = "a toy"
    temperature = 0.05
    ranks = Ranks()

    def begin(self, encoder, vocabulary_head, start, hide):
        self.ranks = start.ranks

    def ask(self, packed, corruption, generator, progress):
        firsts = packed.layout.sequence_starts[:-1][packed.document_ids_S >= 0].long()
        return ask(firsts, torch.arange(len(firsts)), len(packed.token_ids_T) // 4)

    def loss(self, x_MD, question, heads):
        one_MD, other_MD = (F.normalize(each.float(), dim=1) for each in x_MD.chunk(2))
        is_used_N = self.ranks.gather(question.targets) != UNUSED
        logits_MN = one_MD @ self.ranks.gather(other_MD).T / self.temperature
        own_M = question.targets + self.ranks.rank * len(question.targets)
        own_M = own_M.where(question.targets != UNUSED, UNUSED)
        logits_MN = logits_MN.masked_fill(~is_used_N, -1e4)
        return self.answer(question, F.cross_entropy(logits_MN, own_M, ignore_index=UNUSED, reduction="sum"))

    def logits_per_slot(self):
        return 0

    def flops_per_token(self, config, sequence_length, rate):
        return 0.0


@dataclass(frozen=True)
class TwoViews(CorruptedBatch):
    """A batch and the same text with other tokens hidden."""

    other: EncoderInput


class Contrastive(MaskedObjective):
    """Masked tokens of one view, and [CLS] of both (as DeCLUTR and CoCo-LM join them)."""

    citation = "a toy"

    @classmethod
    def chosen_terms(cls, options):
        return chosen(Token), chosen(SameText)

    def corrupt(self, packed, generator, progress):
        other = self.hide(packed, generator, progress).input
        return TwoViews(**vars(super().corrupt(packed, generator, progress)), other=other)

    def read(self, encoder, batch):
        reading = super().read(encoder, batch)
        positions_M = batch.questions["SameText"].positions_M
        both = torch.cat([reading.states["SameText"], encoder(batch.other, positions_M)])
        return replace(reading, states={**reading.states, "SameText": both})


TOYS: dict[str, type[Objective]] = {
    "replaced": ReplacedToken,
    "order": SentenceOrder,
    "hybrid": Hybrid,
    "boundary": SpanBert,
    "contrastive": Contrastive,
}


@pytest.fixture(params=TOYS)
def toy(request, encoder, vocabulary, vocabulary_head) -> Objective:
    kind = TOYS[request.param]
    config = kind.Config()
    made = kind(config, encoder, vocabulary, vocabulary_head)
    made.initialize(torch_generator(0, "toy"))
    return made


def corrupted(objective: Objective, packed, seed: int = 0) -> CorruptedBatch:
    return objective.corrupt(packed, torch_generator(seed, "toy"), 0.5)


def test_a_toy_trains_through_the_step_of_the_engine(toy, encoder, batch):
    """Every term divided by a count of its own, every weight with a finite gradient."""
    stepper = Stepper(PhaseModel(encoder, toy), CPU, torch.float32, Ranks(), seed=1, compiled=False)
    batches = [corrupted(toy, batch, seed) for seed in range(2)]
    found = stepper.forward_backward(0, range(2), batches).read()
    assert set(found.means) == set(toy.terms)
    totals = dict.fromkeys(toy.terms, 0.0)
    for each in batches:
        for term in toy.loss(encoder, each):
            totals[term.name] += float(term.total.detach())
    for name, total in totals.items():
        count = sum(int(each.questions[name].count) for each in batches)
        assert found.means[name] == pytest.approx(total / count, rel=1e-5)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_a_toy_is_one_graph(toy, encoder, batch):
    torch.compiler.reset()
    loss = torch.compile(lambda each: toy.loss(encoder, each)[-1].total, backend="aot_eager", fullgraph=True)
    for seed in range(3):
        with torch._dynamo.config.patch(error_on_recompile=seed > 0):
            each = corrupted(toy, batch, seed)
            torch.testing.assert_close(loss(each), toy.loss(encoder, each)[-1].total)


def test_labels_that_only_reading_knows_are_those_of_the_replaced_tokens(encoder, vocabulary, vocabulary_head, batch):
    toy = ReplacedToken(MaskedConfig(rate=0.5), encoder, vocabulary, vocabulary_head)
    toy.initialize(torch_generator(0, "toy"))
    each = corrupted(toy, batch)
    reading = toy.read(encoder, each)
    detection, count = reading.questions["Detection"], int(each.questions["Detection"].count)
    num_replaced, num_hidden = int((detection.targets == 1).sum()), int(each.questions["Token"].count)
    assert 0.8 * num_hidden < num_replaced <= num_hidden  # a fresh generator seldom draws the right token
    assert (detection.targets != UNUSED).sum() == count == int(toy.is_text(batch).sum())
    hidden = set(each.questions["Token"].positions_M[:num_hidden].tolist())
    assert set(detection.positions_M[detection.targets == 1].tolist()) <= hidden


@pytest.fixture
def electra(vocabulary, vocabulary_head, batch):
    """An encoder of the toy family and the objective with its detection head, after one step."""
    encoder = build_encoder("electra", None, SIZES | {"embedding_size": 16}, vocabulary, 64, 5)
    toy = ReplacedToken(MaskedConfig(), encoder, vocabulary, VocabularyHead(encoder.config))
    toy.initialize(torch_generator(0, "toy"))
    stepper = Stepper(PhaseModel(encoder, toy), CPU, torch.float32, Ranks(), seed=1, compiled=False)
    stepper.forward_backward(0, range(1), [corrupted(toy, batch)])
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *toy.parameters()]:
            parameter.sub_(parameter.grad if parameter.grad is not None else torch.zeros_like(parameter))
    return encoder, toy


def test_a_head_of_a_kind_of_its_own_is_exported_and_loads_with_the_class_of_transformers(
    electra, corpus, batch, tmp_path
):
    encoder, toy = electra
    outcome = toy.outcome(encoder)
    assert (list(outcome.heads), outcome.fills_masks, outcome.reader) == (["detection"], "no", None)
    record = export_model(encoder, outcome.heads, corpus.load_tokenizer(), tmp_path / "model")
    assert record.architecture == "ElectraForPreTraining" and record.max_logit_difference < 2e-5
    theirs = AutoModelForPreTraining.from_pretrained(tmp_path / "model").eval()
    assert isinstance(theirs, ElectraForPreTraining)
    first_row = slice(0, int(batch.layout.sequence_starts[1]))
    with torch.no_grad():
        ours = outcome.heads["detection"](encoder.eval()(batch.input))[first_row]
        logits = theirs(input_ids=batch.token_ids_T[first_row][None]).logits[0]
    torch.testing.assert_close(logits, ours, atol=2e-5, rtol=0)


def test_a_model_with_two_heads_loads_with_either_class(electra, corpus, tmp_path):
    encoder, toy = electra
    heads = {**toy.outcome(encoder).heads, "vocabulary": toy.vocabulary_head}
    record = export_model(encoder, heads, corpus.load_tokenizer(), tmp_path / "model")
    assert record.architecture == "ElectraForPreTraining"
    theirs: Any = ElectraForMaskedLM.from_pretrained(tmp_path / "model")
    assert theirs.config.architectures == ["ElectraForPreTraining", "ElectraForMaskedLM"]
    torch.testing.assert_close(theirs.generator_predictions.dense.weight, toy.vocabulary_head.transform.dense.weight)


def test_a_head_under_wrong_names_is_no_export(electra, corpus, tmp_path, monkeypatch):
    encoder, toy = electra
    right = ElectraExporter.heads["detection"]
    swapped = replace(right, tensors={**right.tensors, "dense.bias": ("discriminator_predictions.dense_bias",)})
    monkeypatch.setattr(ElectraExporter, "heads", {"detection": swapped})
    with pytest.raises(ExportError, match="ElectraForPreTraining answers differently"):
        export_model(encoder, toy.outcome(encoder).heads, corpus.load_tokenizer(), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_head_that_the_family_can_not_export_is_refused_before_training(raw_recipe, corpus, tmp_path):
    raw_recipe["phases"] = [{"objective": {"name": f"{__name__}:ReplacedToken"}, "sequence_length": 32}]
    recipe = parse_recipe(raw_recipe, "test")
    with pytest.raises(ExportError, match="a head of the kind 'detection', and the export of Modernbert has no class"):
        assemble_run(recipe, corpus, RunFolder(tmp_path), Ranks(), {})
    assert not RunFolder(tmp_path).run_record.exists()


def test_a_model_without_any_head_is_refused(encoder):
    with pytest.raises(ExportError, match="leaves no head"):
        require_exportable(encoder, ())


def test_a_fresh_answer_to_the_order_is_a_guess_and_segments_reach_the_encoder(vocabulary, vocabulary_head, batch):
    encoder = build_encoder("bert", None, SIZES, vocabulary, 64, 5)
    toy = SentenceOrder(ObjectiveConfig(), encoder, vocabulary, vocabulary_head)
    toy.initialize(torch_generator(0, "toy"))
    each = corrupted(toy, batch)
    (term,) = toy.loss(encoder, each)
    assert float(term.total.detach() / term.count) == pytest.approx(0.693, abs=0.25)
    flat = replace(each.input.layout, segment_ids_T=torch.zeros_like(each.input.layout.segment_ids_T))
    without = replace(each, input=replace(each.input, layout=flat))
    assert not torch.equal(toy.loss(encoder, without)[0].total, term.total)


def test_causal_sequences_of_a_mixed_batch_see_nothing_that_comes_later(encoder, vocabulary, vocabulary_head, batch):
    toy = Hybrid(MaskedConfig(), encoder, vocabulary, vocabulary_head)
    each = corrupted(toy, batch)
    layout = each.input.layout
    changed_T = each.input.token_ids_T.clone()
    position_T = layout.position_ids_T
    is_late_T = (position_T >= 20) & toy.is_text(batch)
    changed_T[is_late_T] = changed_T[is_late_T].flip(0)
    x_TD, y_TD = encoder(each.input), encoder(replace(each.input, token_ids_T=changed_T))
    is_causal_T = layout.is_causal_S[layout.sequence_index_T.long()]
    early_T = position_T < 20
    torch.testing.assert_close(x_TD[is_causal_T & early_T], y_TD[is_causal_T & early_T], atol=1e-6, rtol=0)
    assert not torch.allclose(x_TD[~is_causal_T & early_T], y_TD[~is_causal_T & early_T])
    assert asked_positions(each).shape[0] == len(batch.token_ids_T) * 3 // 2


def test_a_mixture_draws_by_its_ratios_and_counts_what_its_parts_ask(encoder, vocabulary, vocabulary_head, batch):
    parts = [
        {"objective": {"name": "mlm", "rate": 0.15}, "ratio": {"start": 0.25, "end": 0.9}},
        {"objective": {"name": "late_mask", "rate": 0.5}, "ratio": 0.75},
    ]
    mixture = Mixture(Mixture.Config(parts=parts), encoder, vocabulary, vocabulary_head)
    drawn = [mixture.corrupt(batch, torch_generator(seed, "mixture"), 0.0) for seed in range(200)]
    assert sum(each.part for each in drawn) / 200 == pytest.approx(0.75, abs=0.1)
    alone = mixture.part(drawn[0].part)
    assert mixture.loss(encoder, drawn[0])[0].total == alone.loss(encoder, drawn[0].made)[0].total
    stepper = Stepper(PhaseModel(encoder, mixture), CPU, torch.float32, Ranks(), seed=1, compiled=False)
    kinds = [next(each for each in drawn if each.part == part) for part in (0, 1)]
    found = stepper.forward_backward(0, range(2), kinds).read()
    counts = [int(each.questions["token"].count) for each in kinds]
    totals = [float(mixture.loss(encoder, each)[0].total.detach()) for each in kinds]
    assert found.means["token"] == pytest.approx(sum(totals) / sum(counts), rel=1e-5)


def test_a_question_that_is_missing_counts_nothing(encoder, vocabulary, vocabulary_head, batch):
    """Also when another micro-batch of the step asks it: the names are declared and not those of a batch."""
    toy = Hybrid(MaskedConfig(), encoder, vocabulary, vocabulary_head)
    whole = corrupted(toy, batch)
    questions = {"Token": whole.questions["Token"]}
    lacking = replace(whole, questions=questions, groups=groups_of(questions))
    stepper = Stepper(PhaseModel(encoder, toy), CPU, torch.float32, Ranks(), seed=1, compiled=False)
    found = stepper.forward_backward(0, range(2), [lacking, whole]).read()
    (term,) = [term for term in toy.loss(encoder, whole) if term.name == "NextToken"]
    assert found.means["NextToken"] == pytest.approx(float(term.total.detach() / term.count), rel=1e-5)
    found = stepper.forward_backward(0, range(1), [lacking]).read()
    assert found.means["NextToken"] == 0.0
