"""Dictionary learning: each step against the paper's loop, the whole against scikit-learn, resuming bit for bit."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.decomposition import MiniBatchDictionaryLearning

from maskwright.core.errors import CheckpointError, CorpusError, RecipeError
from maskwright.models.teacher import unit_rows
from maskwright.semantics.sparse_coding.codes import SparseCoder
from maskwright.semantics.sparse_coding.dictionary_learning import (
    DictionaryConfig,
    DictionaryLearner,
    improve_atoms,
    learn_dictionary,
    mean_objective,
)

CONFIG = DictionaryConfig(num_atoms=24, penalty=0.1, batch_states=64, num_updates=30)


@pytest.fixture(scope="module")
def sample_ND() -> torch.Tensor:
    """1,000 states of norm 1: sparse non-negative mixtures of 24 hidden directions, with noise."""
    generator = np.random.default_rng(2)
    directions = generator.standard_normal((24, 16))
    weights = generator.random((1000, 24)) * (generator.random((1000, 24)) < 0.12)
    states = weights @ directions + 0.1 * generator.standard_normal((1000, 16))
    return unit_rows(torch.from_numpy(states).float())


def learned(sample_ND: torch.Tensor, config: DictionaryConfig = CONFIG, seed: int = 1) -> DictionaryLearner:
    learner = DictionaryLearner(config, sample_ND, seed)
    learn_dictionary(learner, sample_ND)
    return learner


def test_atoms_move_as_one_after_the_other():
    generator = np.random.default_rng(0)
    codes = generator.random((200, 70)) * (generator.random((200, 70)) < 0.2)
    codes[:, 5] = 0
    states, atoms = generator.standard_normal((200, 9)), generator.standard_normal((70, 9)) / 3
    code_moments, cross_moments = codes.T @ codes, codes.T @ states
    ours = torch.from_numpy(atoms.copy())
    improve_atoms(ours, torch.from_numpy(code_moments), torch.from_numpy(cross_moments))
    for k in range(70):
        if k != 5:
            moved = atoms[k] + (cross_moments[k] - code_moments[k] @ atoms) / code_moments[k, k]
            atoms[k] = moved / max(np.linalg.norm(moved), 1)
    assert np.abs(ours.numpy() - atoms).max() < 1e-10


def test_the_objective_falls_far_below_that_of_the_first_atoms(sample_ND):
    first = DictionaryLearner(CONFIG, sample_ND, seed=1).atoms_AD
    atoms_AD = learned(sample_ND).atoms_AD
    assert torch.linalg.vector_norm(atoms_AD, dim=1).max() <= 1 + 1e-5
    assert mean_objective(atoms_AD, 0.1, sample_ND) < 0.85 * mean_objective(first, 0.1, sample_ND)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("penalty", [0.05, 0.2])
def test_it_is_as_good_as_scikit_learn(sample_ND, penalty):
    config = CONFIG.model_copy(update={"penalty": penalty, "num_updates": 47})
    theirs = MiniBatchDictionaryLearning(
        n_components=24,
        alpha=penalty,
        batch_size=64,
        max_iter=3,
        fit_algorithm="cd",
        positive_code=True,
        dict_init=DictionaryLearner(config, sample_ND, seed=1).atoms_AD.double().numpy(),
        max_no_improvement=None,
        tol=0.0,
        random_state=0,
    ).fit(sample_ND.double().numpy())
    reference = mean_objective(torch.from_numpy(theirs.components_).float(), penalty, sample_ND)
    assert mean_objective(learned(sample_ND, config).atoms_AD, penalty, sample_ND) < 1.01 * reference


def test_the_reported_objective_is_that_of_the_codes(sample_ND):
    learner = DictionaryLearner(CONFIG.model_copy(update={"tolerance": 1e-4}), sample_ND, seed=1)
    before_AD = learner.atoms_AD.clone()
    batch_MD = learner.batch_of(sample_ND)
    expected = SparseCoder(before_AD, 0.1).encode(batch_MD)[1].objective_M.mean()
    assert abs(learner.update(5 * batch_MD) / float(expected) - 1) < 1e-3
    assert abs(mean_objective(before_AD, 0.1, batch_MD) / float(expected) - 1) < 1e-5


def test_going_on_is_the_same_as_never_stopping_bit_for_bit(sample_ND):
    whole = learned(sample_ND)
    saved: list[bytes] = []
    first = DictionaryLearner(CONFIG, sample_ND, seed=1)
    objectives: list[float] = []

    def keep(objective: float) -> None:
        objectives.append(objective)
        saved.append(save(first.state()))

    learn_dictionary(first, sample_ND, keep)
    assert len(objectives) == 30 and objectives[-1] < objectives[0]
    second = DictionaryLearner(CONFIG, sample_ND, seed=1)
    second.load_state(load(saved[12]))
    assert second.num_updates == 13
    learn_dictionary(second, sample_ND)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_seeds_matter_and_repeat(sample_ND):
    assert torch.equal(learned(sample_ND).atoms_AD, learned(sample_ND).atoms_AD)
    assert not torch.equal(learned(sample_ND).atoms_AD, learned(sample_ND, seed=2).atoms_AD)


def test_minibatches_go_through_the_whole_sample(sample_ND):
    learner = DictionaryLearner(CONFIG.model_copy(update={"batch_states": 300}), sample_ND, seed=1)
    numbers = torch.arange(1000.0)[:, None].expand(-1, 16)
    seen = []
    for number in range(10):
        learner.num_updates = number
        seen += learner.batch_of(numbers)[:, 0].int().tolist()
    for begin in range(0, 3000, 1000):
        assert sorted(seen[begin : begin + 1000]) == list(range(1000))
    assert seen[:1000] != seen[1000:2000]


def test_forgetting_weighs_the_past_as_the_paper_says(sample_ND):
    learner = DictionaryLearner(CONFIG.model_copy(update={"forgetting": 2.0, "tolerance": 1e-5}), sample_ND, seed=1)
    expected = torch.zeros(24, 24)
    for number in range(1, 4):
        batch_MD, atoms_AD = learner.batch_of(sample_ND), learner.atoms_AD.clone()
        codes_MA, _ = SparseCoder(atoms_AD, 0.1, tolerance=1e-5).encode(batch_MD)
        expected = (1 - 1 / number) ** 2 * expected + codes_MA.T @ codes_MA
        learner.update(batch_MD)
    assert (learner.code_moments_AA - expected).abs().max() < 1e-2 * expected.max()


def test_atoms_that_nobody_uses_are_drawn_anew(sample_ND):
    learner = DictionaryLearner(CONFIG.model_copy(update={"patience_states": 128}), sample_ND, seed=1)
    learner.atoms_AD[3] = 0
    for _ in range(2):
        batch_MD = learner.batch_of(sample_ND)
        learner.update(batch_MD)
    assert (learner.atoms_AD[3] - batch_MD).abs().sum(1).min() < 1e-5
    assert learner.idle_states_A[3] == 0
    assert not learner.code_moments_AA[3].any() and not learner.code_moments_AA[:, 3].any()
    for _ in range(4):
        learner.update(learner.batch_of(sample_ND))
    assert learner.code_moments_AA[3, 3] > 0


def test_what_can_not_be_learned_is_refused(sample_ND):
    def config(**changes) -> DictionaryConfig:
        return CONFIG.model_copy(update=changes)

    with pytest.raises(RecipeError, match="a dictionary of 1 atoms\nexpected: 2"):
        DictionaryLearner(config(num_atoms=1), sample_ND, seed=0)
    with pytest.raises(CorpusError, match="the sample has 23 hidden states\nexpected: 24 or more"):
        DictionaryLearner(CONFIG, sample_ND[:23], seed=0)
    with pytest.raises(CheckpointError, match="15 wide\nexpected: 16"):
        learned(sample_ND[:, :16]).update(sample_ND[:, :15])
    with pytest.raises(RecipeError, match=r"lambda is 1.5: every code is zero\nexpected: less than (1|0\.9)"):
        learned(sample_ND, config(penalty=1.5))
    with pytest.raises(CheckpointError, match=r"atoms_AD is \[24, 16\]\nexpected: \[30, 16\]"):
        DictionaryLearner(config(num_atoms=30), sample_ND, 0).load_state(learned(sample_ND).state())
    with pytest.raises(CheckpointError, match="atoms_AD is missing"):
        DictionaryLearner(CONFIG, sample_ND, 0).load_state({})
