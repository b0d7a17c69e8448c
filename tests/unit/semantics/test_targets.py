"""Targets from states: the strongest atoms, what is cut off, and parts that don't belong together."""

import pytest
import torch

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.models.teacher import Teacher, snapshot, unit_rows
from maskwright.semantics.dictionary import Dictionary, DictionaryProvenance
from maskwright.semantics.sparse_coding.codes import SparseCoder, target_distributions
from maskwright.semantics.targets import CodingOptions, TargetCoder, top_targets


@pytest.fixture
def teacher(encoder, vocabulary_head, vocabulary) -> Teacher:
    return Teacher(snapshot(encoder, vocabulary_head, vocabulary), -1, "tiny", torch.device("cpu"), torch.float32)


def dictionary_of(teacher: Teacher, atoms_AD: torch.Tensor, **changes: object) -> Dictionary:
    origin = {"teacher_sha256": teacher.sha256, "layer": teacher.layer} | changes
    numbers = {"num_states_seen": 1, "num_states": 1, "seed": 0, "num_updates": 1, "objective": 0.1}
    return Dictionary(atoms_AD, DictionaryProvenance(penalty=0.05, teacher="tiny", **origin, **numbers))


@pytest.fixture
def atoms_AD(teacher, batch) -> torch.Tensor:
    states = teacher.states(batch)
    return states[torch.randperm(len(states), generator=torch.Generator().manual_seed(0))[:60]]


def dense(targets, num_atoms: int) -> torch.Tensor:
    """Targets over all atoms; positions that are not in use add nothing to atom 0."""
    found = torch.zeros(len(targets.atom_ids_MW), num_atoms)
    return found.scatter_add_(1, targets.atom_ids_MW, targets.weights_MW)


def test_with_room_for_all_atoms_targets_are_the_l1_normalised_codes():
    codes_MA = torch.rand(30, 40) * (torch.rand(30, 40) < 0.3)
    codes_MA[7] = 0
    assert torch.allclose(dense(top_targets(codes_MA, 40), 40), target_distributions(codes_MA))
    assert torch.allclose(dense(top_targets(codes_MA, 999), 40), target_distributions(codes_MA))


def test_the_strongest_atoms_are_kept_and_sum_to_1():
    codes_MA = torch.tensor([[0.0, 3.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]])
    targets = top_targets(codes_MA, 2)
    assert targets.atom_ids_MW.tolist() == [[1, 3], [0, 0], [2, 0]]
    assert torch.allclose(targets.weights_MW, torch.tensor([[0.6, 0.4], [0.0, 0.0], [1.0, 0.0]]))


def test_online_targets_are_the_coders_and_what_is_cut_off_is_told(teacher, atoms_AD, batch):
    positions = torch.arange(1, 60)
    codes_MA, _ = SparseCoder(atoms_AD, 0.05).encode(teacher.states(batch, positions))
    whole = TargetCoder(teacher, dictionary_of(teacher, atoms_AD), CodingOptions())
    assert torch.allclose(dense(whole.targets(batch, positions), 60), target_distributions(codes_MA), atol=1e-6)
    few = TargetCoder(teacher, dictionary_of(teacher, atoms_AD), CodingOptions(keep_atoms=2))
    coded = few.encode(teacher.states(batch, positions))
    cut_off = 1 - codes_MA.topk(2).values.sum(1) / codes_MA.sum(1).clamp_min(1e-9)
    assert float(cut_off.max()) > 0.05
    assert torch.allclose(coded.cut_off_M, cut_off.where(codes_MA.sum(1) > 0, torch.zeros(())), atol=1e-6)
    assert torch.equal(coded.report.nonzeros_M, (codes_MA > 0).sum(1))


def test_codes_in_memory_are_bounded(teacher, atoms_AD, batch, monkeypatch):
    coder = TargetCoder(teacher, dictionary_of(teacher, atoms_AD), CodingOptions(solver="fista"))
    positions = torch.arange(1, 100)
    expected = coder.targets(batch, positions)
    sizes = []
    encode = coder.encode
    monkeypatch.setattr(coder, "encode", lambda states: sizes.append(len(states)) or encode(states))
    coder.states_at_once = 16
    assert torch.allclose(coder.targets(batch, positions).weights_MW, expected.weights_MW, atol=1e-3)
    assert max(sizes) == 16 and sum(sizes) == 99


@pytest.mark.parametrize("changes", [{"teacher_sha256": "0" * 64}, {"layer": 1}])
def test_a_dictionary_of_another_teacher_or_layer_is_refused(teacher, atoms_AD, changes):
    with pytest.raises(CheckpointError, match=r"the dictionary is of layer \d of tiny .*the teacher is layer 2"):
        TargetCoder(teacher, dictionary_of(teacher, atoms_AD, **changes), CodingOptions())


def test_a_dictionary_of_another_width_is_refused(teacher):
    with pytest.raises(CheckpointError, match="hidden states of 32, the dictionary has atoms of 16"):
        TargetCoder(teacher, dictionary_of(teacher, torch.eye(16)), CodingOptions())


def test_one_atom_is_refused(teacher, atoms_AD):
    with pytest.raises(RecipeError, match="1 atoms"):
        TargetCoder(teacher, dictionary_of(teacher, atoms_AD[:1]), CodingOptions())


def test_a_lambda_that_leaves_nothing_is_refused_with_the_largest_of_use(teacher, batch):
    atoms_AD = unit_rows(torch.randn(20, 32, generator=torch.Generator().manual_seed(1)))
    states = teacher.states(batch)
    limit = float((states @ atoms_AD.T).max())
    coder = TargetCoder(teacher, dictionary_of(teacher, atoms_AD), CodingOptions(penalty=limit * 1.001))
    with pytest.raises(RecipeError, match=f"are zero\nexpected: a lambda below {limit:.4g}"):
        coder.require_codes(states)
    TargetCoder(teacher, dictionary_of(teacher, atoms_AD), CodingOptions(penalty=limit * 0.999)).require_codes(states)
