"""A dictionary's file: whole, checked, without pickle."""

import pytest
import torch
from safetensors.torch import save_file

from maskwright.core.errors import CheckpointError
from maskwright.semantics.dictionary import FILE_NAME, Dictionary, DictionaryProvenance


@pytest.fixture
def dictionary() -> Dictionary:
    atoms_AD = torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)))
    return Dictionary(
        atoms_AD,
        DictionaryProvenance(
            penalty=0.05,
            teacher="runs/teacher",
            teacher_sha256="ab" * 32,
            layer=6,
            num_states_seen=1000,
            num_states=100,
            seed=3,
            num_updates=8,
            objective=0.125,
        ),
    )


def test_what_is_saved_is_loaded(dictionary, tmp_path):
    path = dictionary.save(tmp_path / "dictionary")
    loaded = Dictionary.load(tmp_path / "dictionary")
    assert torch.equal(loaded.atoms_AD, dictionary.atoms_AD)
    assert loaded.provenance == dictionary.provenance
    assert loaded.sha256 == dictionary.sha256
    first = path.read_bytes()
    assert loaded.save(tmp_path / "again").read_bytes() == first


def test_the_checksum_depends_on_atoms_and_provenance(dictionary):
    other = dictionary.provenance.model_copy(update={"layer": 5})
    flat = Dictionary(dictionary.atoms_AD.reshape(5, 7), dictionary.provenance)
    sums = {dictionary.sha256, Dictionary(dictionary.atoms_AD, other).sha256, flat.sha256}
    assert len(sums | {Dictionary(-dictionary.atoms_AD, other).sha256}) == 4


def test_damage_is_noticed(dictionary, tmp_path):
    path = dictionary.save(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="altered"):
        Dictionary.load(tmp_path)
    path.write_bytes(bytes(content[:40]))
    with pytest.raises(CheckpointError, match="is no dictionary"):
        Dictionary.load(tmp_path)
    save_file({"atoms_AD": dictionary.atoms_AD}, path)
    with pytest.raises(CheckpointError, match="is no dictionary: 'maskwright'"):
        Dictionary.load(tmp_path)
    save_file({"atoms_AD": dictionary.atoms_AD}, path, {"maskwright": '{"provenance": {"layer": 1}}'})
    with pytest.raises(CheckpointError, match="is no dictionary"):
        Dictionary.load(tmp_path)


def test_a_missing_dictionary_says_how_to_make_one(tmp_path):
    with pytest.raises(CheckpointError, match=rf"{FILE_NAME} does not exist\n(.*\n)*to do: make it with"):
        Dictionary.load(tmp_path)


def test_another_models_states_are_refused(dictionary):
    dictionary.require_width(5, "runs/teacher")
    with pytest.raises(CheckpointError, match="bert-tiny has hidden states of 128, the dictionary has atoms of 5"):
        dictionary.require_width(128, "bert-tiny")
