"""Masked latent semantic modelling: targets are the teacher's, the loss is the formulas', options are honoured."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from sklearn.linear_model import Lasso
from torch.utils.flop_counter import FlopCounterMode

from maskwright.batching.row_stream import RowStream
from maskwright.core.batches import CorruptedBatch
from maskwright.core.errors import CheckpointError, CorpusError, MemoryShortage, RecipeError
from maskwright.core.randomness import torch_generator
from maskwright.encoders import build_encoder
from maskwright.heads.cross_entropy import losses_of_logits
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.models.trained import TrainedModel
from maskwright.objectives.mlm import Mlm
from maskwright.objectives.mlsm import Mlsm
from maskwright.objectives.terms.distillation import TeacherLogits, divergence_from_logits
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.phase_teacher import PhaseTeacher
from maskwright.semantics.target_cache.cache import token_numbers
from maskwright.semantics.targets import TopTargets, entropy
from maskwright.training.recipe.recipe import parse_recipe

ITSELF = {"term": "own_atoms", "refresh_steps": 100}
TOKENS = {"term": "distillation"}


def corrupted(objective, batch, seed=0) -> CorruptedBatch:
    return objective.corrupt(batch, torch_generator(seed, "test"), 0.0)


@torch.no_grad()
def completed(objective, encoder, batch, seed=0):
    return objective.complete(encoder, corrupted(objective, batch, seed))


def positions_of(batch: CorruptedBatch) -> torch.Tensor:
    """Return the positions in use of the first term."""
    question = next(iter(batch.questions.values()))
    return question.positions_M[: int(question.count)]


def targets_of(batch: CorruptedBatch):
    """Return the targets of the first term."""
    return next(iter(batch.questions.values())).targets


def dense(targets: TopTargets, num_atoms: int) -> torch.Tensor:
    rows = torch.zeros(len(targets.weights_MW), num_atoms, dtype=targets.weights_MW.dtype)
    return rows.scatter_add(1, targets.atom_ids_MW, targets.weights_MW)


def divergence(logits_MA: torch.Tensor, targets: TopTargets) -> torch.Tensor:
    """Return the divergence as the objective puts it together."""
    return losses_of_logits(logits_MA, targets.atom_ids_MW, targets.weights_MW).total - entropy(targets)


def by_scikit_learn(states_MD: torch.Tensor, atoms_AD: torch.Tensor, penalty: float) -> torch.Tensor:
    """Return target distributions by an independent solver, float64 [M, A]."""
    lasso = Lasso(penalty / atoms_AD.shape[1], positive=True, fit_intercept=False, max_iter=100_000, tol=1e-5)
    codes = np.atleast_2d(lasso.fit(atoms_AD.double().numpy().T, states_MD.double().numpy().T).coef_)
    return torch.from_numpy(codes / np.maximum(codes.sum(1, keepdims=True), 1e-30))


def test_the_sparse_divergence_is_the_dense_one_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    logits_MA = torch.randn(5, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    weights_MW = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    weights_MW[1, 2:] = 0  # two unused entries, beside a used one of atom 0
    weights_MW[2] = 0  # an all-zero code
    weights_MW /= weights_MW.sum(1, keepdim=True).clamp_min(1e-9)
    atom_ids_MW = torch.tensor([[3, 1, 8, 2], [5, 0, 0, 0], [0, 0, 0, 0], [8, 7, 6, 5], [0, 1, 2, 3]])
    targets = TopTargets(atom_ids_MW, weights_MW)
    target_MA = dense(targets, 9)
    expected = sum(
        F.kl_div(logits_MA[row].log_softmax(0), target_MA[row], reduction="sum") for row in range(5) if row != 2
    )
    total = divergence(logits_MA, targets)
    torch.testing.assert_close(total, expected)
    (gradient,) = torch.autograd.grad(total, logits_MA)
    # Gradient of soft-label cross-entropy; none where there is no target.
    torch.testing.assert_close(gradient, target_MA.sum(1, keepdim=True) * logits_MA.softmax(1) - target_MA)
    assert gradient[2].eq(0).all()


def test_no_scored_positions_give_no_nan():
    logits_MA = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    nothing = TopTargets(torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 2))
    total = divergence(logits_MA, nothing)
    assert float(total.detach()) == 0
    assert torch.autograd.grad(total, logits_MA)[0].eq(0).all()


def test_distillation_is_the_divergence_of_both_distributions():
    generator = torch.Generator().manual_seed(0)
    logits_MV, teacher_MV = torch.randn(2, 4, 6, generator=generator)
    is_used_M = torch.tensor([True, False, True, True])
    kind = torch.distributions.Categorical
    each = torch.distributions.kl_divergence(kind(logits=teacher_MV), kind(logits=logits_MV))
    total = divergence_from_logits(logits_MV, teacher_MV, is_used_M)
    torch.testing.assert_close(total, each[is_used_M].sum())


def test_token_numbers_find_the_tokens_in_the_corpus(corpus):
    """Whatever an epoch cuts and packs, the number leads to the same token."""
    split = corpus.split("train")
    every_token = split.gather_tokens(
        np.arange(split.num_documents), np.zeros(split.num_documents, np.int64), split.document_lengths
    ).token_ids
    stream = RowStream(split, corpus.vocabulary, 16, seed=2)
    seen = []
    for first in range(0, stream.num_rows_per_epoch, 8):
        batch = stream.batch(first, 8)
        is_text = ~torch.isin(batch.token_ids_T, torch.tensor(corpus.vocabulary.special_ids))
        places = is_text.nonzero().squeeze(1)
        numbers = token_numbers(batch, places, split.first_tokens)
        assert np.array_equal(every_token[numbers], batch.token_ids_T[places].numpy())
        seen.append(numbers)
    numbers = np.concatenate(seen)
    is_text = ~np.isin(every_token, corpus.vocabulary.special_ids)
    assert set(numbers.tolist()) == set(np.flatnonzero(is_text).tolist())


@pytest.fixture
def whole_documents(corpus, vocabulary):
    """A student that reads whole documents, and a batch of them."""
    student = build_encoder(
        "modernbert",
        None,
        {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48},
        vocabulary,
        max_positions=256,
        seed=7,
    )
    batch = RowStream(corpus.split("train"), vocabulary, 256, seed=3, may_cut=False).batch(0, 4)
    return student, batch


def test_cached_targets_are_those_of_the_online_teacher(mlsm, phase_start, whole_documents, corpus):
    """Where a sequence is a whole document, both see the same context; what is stored is rounded."""
    student, batch = whole_documents
    assert corpus.split("train").document_lengths.max() <= 254
    start = replace(phase_start, sequence_length=256)
    cached, online = (mlsm(start, student, targets=kind) for kind in ("cached", "online"))
    batches = corrupted(cached, batch), completed(online, student, batch)
    assert torch.equal(positions_of(batches[0]), positions_of(batches[1]))
    one, other = (dense(targets_of(each), 24) for each in batches)
    num_used = len(positions_of(batches[0]))
    assert one[num_used:].eq(0).all()
    assert other[num_used:].eq(0).all()
    assert one[:num_used].sum(1).gt(0.99).float().mean() > 0.9
    distances = (one - other).abs().sum(1) / 2
    assert distances.max() < 0.02


def test_of_held_out_text_targets_are_the_teachers_and_not_those_of_the_training_text(mlsm, encoder, corpus):
    """Documents of both splits have the same numbers; the cache holds the training text alone."""
    cached, online = mlsm(targets="cached"), mlsm(targets="online")
    rows = RowStream(corpus.split("held_out"), corpus.vocabulary, 32, seed=3).batch(0, 4)
    held_out = replace(rows, split="held_out")
    one, other = (completed(objective, encoder, held_out) for objective in (cached, online))
    torch.testing.assert_close(targets_of(one).weights_MW, targets_of(other).weights_MW)
    assert torch.equal(targets_of(one).atom_ids_MW, targets_of(other).atom_ids_MW)
    mistaken = dense(targets_of(completed(cached, encoder, rows)), 24)
    assert (mistaken - dense(targets_of(other), 24)).abs().sum(1).max() > 0.5


def test_online_targets_are_the_codes_of_the_clean_text(mlsm, phase_start, encoder, batch):
    """By scikit-learn, from states of transformers' numbering; the mask makes no difference to a token's target."""
    objective = mlsm(phase_start, targets="online", layer=1, coding={"penalty": 0.1, "tolerance": 1e-5})
    dictionary = Dictionary.load(phase_start.folder / "dictionary")
    x_TD = encoder.embed(batch.input)
    x_TD = encoder.run_blocks(x_TD, batch.layout, stop=1).detach().double()
    x_TD /= x_TD.norm(dim=1, keepdim=True)
    expected_TA = by_scikit_learn(x_TD, dictionary.atoms_AD, 0.1)
    for seed in (0, 1):
        result = completed(objective, encoder, batch, seed)
        positions = positions_of(result)
        found = dense(targets_of(result), 24)[: len(positions)].double()
        torch.testing.assert_close(found, expected_TA[positions], atol=2e-3, rtol=0)
        assert found.gt(0).sum(1).gt(1).any()


@pytest.mark.parametrize("targets", ["cached", "online"])
def test_the_strongest_atom_alone(mlsm, encoder, batch, targets):
    codes = targets_of(completed(mlsm(targets=targets), encoder, batch))
    hard = targets_of(completed(mlsm(targets=targets, target="strongest_atom"), encoder, batch))
    assert hard.weights_MW.shape[1] == 1
    best = dense(codes, 24).max(1)
    assert torch.equal(hard.weights_MW[:, 0], (best.values > 0).float())
    has_code = best.values > 0
    assert torch.equal(hard.atom_ids_MW[has_code, 0], best.indices[has_code])


def test_mlm_beside_is_that_of_mlm(mlsm, encoder, vocabulary, vocabulary_head, batch):
    """Same positions, softmax over the vocabulary alone; its weight is the option's."""
    objective = mlsm(token=0.2)
    result = corrupted(objective, batch)
    terms = {term.name: term for term in objective.loss(encoder, result)}
    assert {name: term.weight for name, term in terms.items()} == {"atoms": 1.0, "token": 0.2}
    assert result.groups == (("atoms", "token"),), "one reading answers both"
    alone = replace(result, questions={"token": result.questions["token"]}, groups=(("token",),))
    (plain,) = Mlm(Mlm.Config(), encoder, vocabulary, vocabulary_head).loss(encoder, alone)
    torch.testing.assert_close(terms["token"].total, plain.total)


@pytest.mark.parametrize("options", [{}, {"targets": "online"}], ids=["cached", "online"])
def test_without_weight_the_vocabulary_head_is_not_run(mlsm, encoder, vocabulary_head, batch, options, monkeypatch):
    objective = mlsm(token=0, **options)
    assert not objective.trains_vocabulary_head and objective.outcome(encoder).fills_masks == "no"

    def refused(*_):
        raise AssertionError("the vocabulary head was run")

    monkeypatch.setattr(vocabulary_head, "forward", refused)
    terms = objective.loss(encoder, completed(objective, encoder, batch))
    assert [term.name for term in terms] == ["atoms"]


def test_agreement_is_the_share_of_strongest_atoms_found(mlsm, encoder, batch):
    objective = mlsm()
    result = corrupted(objective, batch)
    term = {term.name: term for term in objective.loss(encoder, result)}["atoms"]
    x_TD = encoder(result.input)
    logits_MA = objective.term("atoms").head(x_TD[result.questions["atoms"].positions_M])
    target_MA = dense(targets_of(result), 24)
    found = [int(z.argmax()) == int(t.argmax()) for z, t in zip(logits_MA, target_MA, strict=True) if t.sum() > 0]
    assert int(term.metrics["atoms_agreement"]) == sum(found)
    assert int(term.count) == len(positions_of(result))
    assert not term.metrics["atoms_agreement"].requires_grad


def test_distillation_is_from_the_clean_text(mlsm, encoder, vocabulary_head, batch):
    """A student that sees everything agrees with the teacher it is a copy of."""
    objective = mlsm(masking={"mask_fraction": 0, "kept_fraction": 1}, token=0, **TOKENS)
    result = completed(objective, encoder, batch)
    assert isinstance(targets_of(result), TeacherLogits)
    (term,) = objective.loss(encoder, result)
    assert term.name == "distillation"
    assert float(term.total.detach()) == pytest.approx(0, abs=1e-3)
    assert int(term.metrics["distillation_agreement"]) == int(term.count)
    masked = mlsm(token=0, **TOKENS)
    divergence = masked.loss(encoder, completed(masked, encoder, batch))[0]
    x_TD = encoder(batch.input)
    result = corrupted(masked, batch)
    positions = positions_of(result)
    teacher_MV = vocabulary_head(x_TD[positions], encoder.embedding_weight_VE)
    x_TD = encoder(result.input)
    student_MV = vocabulary_head(x_TD[positions], encoder.embedding_weight_VE)
    each = F.kl_div(student_MV.log_softmax(1), teacher_MV.softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(divergence.total, each.sum(), atol=1e-3, rtol=1e-4)


def test_tokens_and_the_teachers_predictions_share_the_logits(mlsm, encoder, vocabulary_head, batch, monkeypatch):
    """The vocabulary head runs once for both terms."""
    calls, forward = [], vocabulary_head.forward
    monkeypatch.setattr(vocabulary_head, "forward", lambda *each: calls.append(1) or forward(*each))
    objective = mlsm(**TOKENS)
    result = completed(objective, encoder, batch)
    calls.clear()
    assert [term.name for term in objective.loss(encoder, result)] == ["distillation", "token"]
    assert len(calls) == 1


def test_the_teacher_is_none_of_the_weights(mlsm):
    objective = mlsm(targets="online", is_begun=False)
    before = set(objective.state_dict())
    assert set(mlsm(targets="online").state_dict()) == before
    assert not [name for name in before if "teacher" in name]


def test_the_operations_are_counted(mlsm, encoder, vocabulary, vocabulary_head, batch):
    """What MLSM adds to MLM is the head over atoms, at the scored positions."""
    counts = []
    beside, alone = mlsm(), mlsm(token=0)
    mlm = Mlm(Mlm.Config(rate=0.15), encoder, vocabulary, vocabulary_head)
    for objective in (mlm, beside, alone):
        result = corrupted(objective, batch)
        with FlopCounterMode(display=False) as counter:
            sum(term.weight * term.total for term in objective.loss(encoder, result)).backward()
        counts.append(counter.get_total_flops() / len(batch.token_ids_T))
    formulas = [objective.flops_per_token(encoder.config, 32) for objective in (mlm, beside, alone)]
    slots = len(next(iter(result.questions.values())).positions_M) / len(batch.token_ids_T)
    for index in (1, 2):
        assert counts[index] - counts[0] == pytest.approx((formulas[index] - formulas[0]) * slots / 0.15)
    reading, coding = (mlsm(targets="online", coding={"solver": "fista", "num_iterations": steps}) for steps in (1, 5))
    more = coding.flops_per_token(encoder.config, 32) - reading.flops_per_token(encoder.config, 32)
    assert more == pytest.approx(0.15 * 4 * 2 * 24 * 24)  # 24 atoms, 32 wide: by their Gram matrix
    assert alone.scored_fraction() == pytest.approx(0.15 * 24 / 120)
    assert beside.scored_fraction() == pytest.approx(0.15 * 144 / 120)


class TestResuming:
    """What a phase was begun with stays."""

    def test_the_teacher_is_the_model_as_it_was_when_the_phase_began(self, mlsm, encoder, phase_start, batch):
        before = targets_of(completed(mlsm(phase_start, targets="online"), encoder, batch))
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.mul_(1.5)
        resumed = mlsm(replace(phase_start, was_begun=True), targets="online")
        after = targets_of(completed(resumed, encoder, batch))
        assert torch.equal(after.weights_MW, before.weights_MW)
        assert torch.equal(after.atom_ids_MW, before.atom_ids_MW)

    def test_another_teacher_half_way_is_refused(self, mlsm, phase_start):
        mlsm(phase_start, targets="online")
        path = phase_start.folder / "taught_by.json"
        PhaseTeacher.read(path).model_copy(update={"teacher_sha256": "f" * 64}).write(path)
        with pytest.raises(CheckpointError, match="begun with teacher_sha256 ffff"):
            mlsm(replace(phase_start, was_begun=True), targets="online")


class TestRefusals:
    """Bad input is refused where it is read, with what to do."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"target": "teacher_tokens"}, "'codes' or 'strongest_atom'"),
            ({"refresh_steps": 5}, "refresh_steps: unknown key"),
            ({"name": "distillation", "layer": 3}, "layer: unknown key"),
            ({"name": "own_atoms", "dictionary": {"folder": "there"}}, "learns its dictionary"),
            ({"dictionary": {"folder": "there", "num_atoms": 5}}, "num_atoms has no meaning"),
            ({"dictionary": {"num_atoms": 1}}, "greater than or equal to 2"),
            ({"dictionary": {"num_atoms": 70_000}}, "less than or equal to 65536"),
            ({"dictionary": {"num_atoms": 500, "num_states": 100}}, "20 times as many"),
            ({"dictionary": {"folder": "there"}}, "a teacher that is there already"),
            ({"coding": {"penalty": 1}}, "less than 1"),
            ({"weight": -1}, "greater than 0"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValidationError, match=message):
            Mlsm.Config.model_validate({"terms": [{"name": "atoms", **options}]})

    @pytest.mark.parametrize("layer", [3, -4])
    def test_a_layer_that_there_is_not(self, mlsm, layer):
        with pytest.raises(RecipeError, match=rf"layer {layer} of an encoder with 2 layers"):
            mlsm(layer=layer)

    def test_a_first_phase_without_a_teacher(self, raw_recipe):
        phases = [{"objective": {"name": "mlsm"}, "sequence_length": 32}]
        with pytest.raises(RecipeError, match="mlsm with these options builds on a phase before"):
            parse_recipe({**raw_recipe, "phases": phases}, "test")
        for term in ({"name": "atoms", "teacher": "a_folder"}, "own_atoms"):
            phases = [{"objective": {"name": "mlsm", "terms": [term]}, "sequence_length": 32}]
            parse_recipe({**raw_recipe, "phases": phases}, "test")

    def test_a_strategy_that_has_nothing_to_learn_from(self, raw_recipe):
        mlsm = {"objective": {"name": "mlsm", "strategy": "adaptive", "terms": ["atoms"]}, "sequence_length": 32}
        with pytest.raises(RecipeError, match=r"phases\.1\.objective: strategy: adaptive learns from predictions"):
            parse_recipe({**raw_recipe, "phases": [{"sequence_length": 32}, mlsm]}, "test")

    def test_a_teacher_with_another_tokenizer(self, mlsm, corpus, encoder, vocabulary, vocabulary_head):
        folder = str(corpus.folder / "tokenizer")
        config = Mlsm.Config(terms=[{"name": "atoms", "teacher": folder}])
        Mlsm(config, encoder, vocabulary, vocabulary_head)
        with pytest.raises(RecipeError, match="another tokenizer") as refused:
            Mlsm(config, encoder, replace(vocabulary, sha256="0" * 64), vocabulary_head)
        assert "tokenizer.existing" in str(refused.value)

    def test_a_teacher_that_there_is_not(self, mlsm, tmp_path):
        with pytest.raises(RecipeError, match="there is no folder"):
            mlsm(teacher=str(tmp_path / "nowhere"))

    def test_a_dictionary_of_another_teacher(self, mlsm, phase_start, corpus, vocabulary, tmp_path):
        mlsm(phase_start, targets="online")
        teacher = str(corpus.folder / "tokenizer")  # only the tokenizer is looked at before the phase begins
        options = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "feed_forward_size": 24}
        narrow = build_encoder("modernbert", None, options, vocabulary, max_positions=64, seed=1)
        model = TrainedModel(narrow, VocabularyHead(narrow.config), vocabulary, "1" * 64)
        start = replace(phase_start, folder=tmp_path / "other", read_model=lambda path: model)
        dictionary = {"folder": str(phase_start.folder / "dictionary")}
        with pytest.raises(CheckpointError, match="32"):
            mlsm(start, teacher=teacher, dictionary=dictionary)
        same_width = TrainedModel(
            build_encoder("modernbert", None, {**options, "hidden_size": 32}, vocabulary, max_positions=64, seed=1),
            VocabularyHead(narrow.config),
            vocabulary,
            "1" * 64,
        )
        with pytest.raises(CheckpointError, match="dictionary is of layer 2 of the phase before"):
            mlsm(replace(start, read_model=lambda path: same_width), teacher=teacher, dictionary=dictionary)

    @pytest.mark.parametrize("targets", ["cached", "online"])
    def test_a_lambda_that_leaves_no_codes(self, mlsm, phase_start, encoder, vocabulary, corpus, targets, tmp_path):
        mlsm(phase_start, targets="online")
        folder = phase_start.folder / "dictionary"
        sha256 = Dictionary.load(folder).provenance.teacher_sha256
        model = TrainedModel(encoder, VocabularyHead(encoder.config), vocabulary, sha256)
        with pytest.raises(RecipeError, match=r"lambda is 0\.9999.*\nexpected: a lambda below 0\.\d+"):
            mlsm(
                replace(phase_start, folder=tmp_path / "new", read_model=lambda path: model),
                teacher=str(corpus.folder / "tokenizer"),
                targets=targets,
                coding={"penalty": 0.9999},
                dictionary={"folder": str(folder)},
            )

    def test_too_little_text(self, mlsm):
        with pytest.raises(CorpusError, match="atoms"):
            mlsm(dictionary={"num_atoms": 60_000})

    def test_too_little_text_or_memory_before_the_first_step(self, encoder, vocabulary, corpus):
        def require(num_atoms: int, available_bytes: int) -> None:
            terms = [{"name": "atoms", "dictionary": {"num_atoms": num_atoms}}]
            options = Mlsm.Config.model_validate({"terms": terms})
            head = VocabularyHead(encoder.config)
            Mlsm(options, encoder, vocabulary, head).check_resources(corpus, 32, available_bytes)

        require(100, 10**9)
        with pytest.raises(CorpusError, match="tokens to learn 60,000 atoms"):
            require(60_000, 10**12)
        with pytest.raises(MemoryShortage, match="a dictionary of 100 atoms"):
            require(100, 100_000)

    def test_a_dictionary_that_there_is_not(self, mlsm, corpus, tmp_path):
        with pytest.raises(CheckpointError, match="maskwright dictionary"):
            mlsm(teacher=str(corpus.folder / "tokenizer"), dictionary={"folder": str(tmp_path)})


class TestItself:
    """A student that learns codes of its own states."""

    def test_mlm_alone_before_the_first_dictionary(self, mlsm, encoder, batch):
        objective = mlsm(**ITSELF)
        with torch.no_grad():
            objective.term("own_atoms").head.decoder.bias[0] = (
                100  # what unused entries of targets hold is no agreement
            )
        terms = {term.name: term for term in objective.loss(encoder, completed(objective, encoder, batch))}
        own = terms["own_atoms"]
        assert float(own.total.detach()) == float(own.metrics["own_atoms_agreement"]) == 0
        assert float(terms["token"].total.detach()) > 0

    def test_targets_are_codes_of_the_student_at_its_corrupted_input(self, mlsm, encoder, batch):
        # Random tokens, because all of an untrained student's states at [MASK] are alike.
        mix = {"mask_fraction": 0, "random_fraction": 1}
        objective = mlsm(**ITSELF, masking=mix, layer=1, coding={"penalty": 0.1, "tolerance": 1e-5})
        objective.after_step(encoder, 99)
        assert not objective.term("own_atoms").dictionary.is_learned
        objective.after_step(encoder, 100)
        assert objective.term("own_atoms").dictionary.is_learned
        assert encoder.training
        result = completed(objective, encoder, batch)
        x_TD = encoder.embed(result.input)
        x_TD = encoder.run_blocks(x_TD, batch.layout, stop=1).detach().double()
        positions = positions_of(result)
        states = F.normalize(x_TD[positions])
        expected = by_scikit_learn(states, objective.term("own_atoms").dictionary.atoms_AD, 0.1)
        torch.testing.assert_close(
            dense(targets_of(result), 24)[: len(positions)].double(), expected, atol=2e-3, rtol=0
        )

    def test_a_new_dictionary_begins_with_the_atoms_before(self, mlsm, encoder):
        objective = mlsm(**ITSELF)
        objective.after_step(encoder, 100)
        first = objective.term("own_atoms").dictionary.atoms_AD.clone()
        objective.after_step(encoder, 200)
        second = objective.term("own_atoms").dictionary.atoms_AD
        assert not torch.equal(first, second)
        closest = F.normalize(first) @ F.normalize(second).T
        assert closest.argmax(1).eq(torch.arange(24)).float().mean() > 0.8

    def test_the_atoms_are_in_checkpoints(self, mlsm, encoder, phase_start, batch):
        objective = mlsm(**ITSELF)
        objective.after_step(encoder, 100)
        resumed = mlsm(is_begun=False, **ITSELF)
        resumed.load_state_dict(objective.state_dict())
        resumed.begin(encoder, replace(phase_start, was_begun=True))
        one, other = (targets_of(completed(each, encoder, batch)) for each in (objective, resumed))
        assert torch.equal(one.weights_MW, other.weights_MW)
        assert one.weights_MW.gt(0).any()

    def test_refusals(self, mlsm, encoder, phase_start):
        with pytest.raises(RecipeError, match="there would never be a dictionary"):
            mlsm(replace(phase_start, num_steps=100), **ITSELF)
        objective = mlsm(**ITSELF, masking={"rate": 0.005})
        with pytest.raises(CorpusError, match="masked tokens give"):
            objective.after_step(encoder, 100)
