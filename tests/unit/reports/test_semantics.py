"""The section on semantics: senses side by side, atoms with contexts, dead ones counted; foreign text stays text."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.reports.test_html import PAYLOAD, PAYLOADS, Page

from maskwright.core.records.run import RunFolder
from maskwright.core.records.semantics import ATOMS, AtomsRecord, sample_atoms
from maskwright.reports.html import write_dictionary_report, write_report
from maskwright.reports.semantics import SemanticsSection, atom_frequency_chart, nonzeros_chart, show_word

ATOMS_TERM = {"name": "atoms", "dictionary": {"num_atoms": 40, "folder": None}}
PHASES = [
    {"objective": {"name": "mlm"}, "sequence_length": 128},
    {"objective": {"name": "mlsm", "terms": [ATOMS_TERM, {"name": "token"}]}, "sequence_length": 128},
]


def described(word: str = "bank", label: str = "money") -> AtomsRecord:
    """Return 40 atoms of which 3 are dead, and a word with two senses that share atom 2."""

    def profile(atoms: dict[int, float]) -> dict[str, Any]:
        weights = [{"atom": atom, "weight": weight} for atom, weight in atoms.items()]
        context = {"left": f"near the {label} ", "word": word, "right": f" of {label}"}
        return {"context": context, "atoms": weights, "num_atoms": 9}

    atoms = [
        {
            "label": [f"{label}{number}", "loan"] if number < 37 else [],
            "frequency": 0.2 / (number + 1) if number < 37 else 0.0,
            "mean_weight": 0.1,
            "contexts": [{"left": "the ", "word": word, "right": f" {label}", "weight": 0.5}] * 5
            if number < 37
            else [],
        }
        for number in range(40)
    ]
    senses = [
        {"num_occurrences": 12, "profile": profile({4: 0.5, 2: 0.2})},
        {"num_occurrences": 7, "profile": profile({2: 0.25, 9: 0.125})},
    ]
    return AtomsRecord.model_validate(
        {
            "dictionary_sha256": "0" * 64, "teacher": label, "layer": 4, "penalty": 0.05, "num_tokens": 1000,
            "coding": {
                "mean_nonzeros": 6.5, "most_nonzeros": 14.0, "zero_codes_fraction": 0.01, "largest_relative_gap": 9e-5,
                "largest_kkt_violation": 0.02, "largest_eigenvalue": 31.0,
            },
            "nonzeros": [10, 0, 40, 100, 50],
            "atoms": atoms,
            "words": [{"word": word, "silhouette": 0.4, "senses": senses}],
        }
    )  # fmt: skip


def write_semantics(run: Path, record: AtomsRecord) -> Path:
    """Add atoms to the second phase of a run, and what the student reached to its metrics."""
    record.write(RunFolder(run).phase(1) / "dictionary" / ATOMS)
    lines = [json.loads(line) for line in RunFolder(run).metrics.read_text().splitlines()]
    for line in lines:
        if line.get("phase") == 1:
            line |= {"atoms": 2 - line["progress"], "atoms_agreement": line["progress"] / 2}
    RunFolder(run).metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture
def run(make_run: Callable[..., Path]) -> Path:
    return make_run(recipe={"name": "taught", "phases": PHASES})


def test_the_report_shows_what_atoms_mean(run):
    page = Page(write_report(write_semantics(run, described())).read_text())
    words = " ".join(" ".join(page.text).split())
    for expected in (
        "Phase 2", "40 latent atoms", "layer 4 of money", "6.5", "9e-05", "1.0 % of tokens", "3 dead",
        "like 12 occurrences of bank", "money4 · loan", "50.0 %", "Student agrees with teacher", "Divergence",
    ):  # fmt: skip
        assert expected in words, expected
    assert ("section", "id", "semantics") in page.attributes
    assert "script" not in page.tags


def test_runs_without_atoms_have_no_such_section(run):
    assert 'id="semantics"' not in write_report(run).read_text()


def test_atoms_of_a_dictionary_that_the_recipe_names(make_run, tmp_path):
    described(word="elsewhere").write(tmp_path / "mine" / ATOMS)
    term = {"name": "atoms", "dictionary": {"folder": str(tmp_path / "mine")}}
    named = {"objective": {"name": "mlsm", "terms": [term]}, "sequence_length": 128}
    run = make_run(recipe={"name": "taught", "phases": [named]})
    assert 'occurrences of <b class="text">elsewhere' in write_report(run).read_text()


def test_senses_have_bars_of_one_scale_and_the_shared_atom_is_marked():
    record = described()
    first, second = show_word(record.words[0], record).senses
    assert [(bar.number, bar.width, bar.is_shared) for bar in first.bars] == [(4, 1.0, False), (2, 0.4, True)]
    assert [(bar.number, bar.width, bar.is_shared) for bar in second.bars] == [(2, 0.5, True), (9, 0.25, False)]


def test_hostile_text_stays_text(run, tmp_path):
    hostile = described(PAYLOAD, PAYLOAD)
    hostile.write(tmp_path / "dictionary" / ATOMS)
    for path in (write_report(write_semantics(run, hostile)), write_dictionary_report(tmp_path / "dictionary")):
        text = path.read_text()
        page = Page(text)
        assert not {"script", "iframe", "object", "embed", "img", "link", "form", "foreignobject", "a"} & set(page.tags)
        assert not any(name.startswith("on") for _, name, _ in page.attributes)
        assert sum(PAYLOADS[0] in piece for piece in page.text) >= 20
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        assert "default-src 'none'" in text


def test_equal_records_give_equal_bytes(tmp_path):
    for name in "ab":
        described().write(tmp_path / name / "dictionary" / ATOMS)
    first, second = (write_dictionary_report(tmp_path / name / "dictionary").read_bytes() for name in "ab")
    assert first == second


def test_charts_say_what_they_show():
    record = described()
    chart = nonzeros_chart(record, "a")
    assert chart is not None
    assert "2.9 on average; 5.0 % of tokens have none" in chart
    chart = atom_frequency_chart(record, "a")
    assert chart is not None
    assert "3 of 40 atoms are dead" in chart
    empty = record.model_copy(update={"nonzeros": [], "atoms": [], "words": []})
    assert SemanticsSection.of("", empty, [None]).charts == []


def test_atoms_shown_are_in_use_and_spread_over_the_ranks():
    assert sample_atoms(described(), 5) == [6, 12, 18, 24, 30]
    assert len(sample_atoms(described(), 100)) == 37
