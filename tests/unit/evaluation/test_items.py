"""Items on disk and resampled."""

from pathlib import Path

import numpy as np
import pytest

from maskwright.core.errors import CheckpointError
from maskwright.evaluation.items import Items


def three_items() -> Items:
    return Items(
        np.array(["a", "b", "ü"]),
        {"target": np.array([0, 1, 1]), "margin": np.array([0.1, -2.5, 1e-9])},
        np.array([0, 1, 0]),
        ("first", "second"),
        {"answer": ["yes\n", "", "нет"]},
    )


def test_items_survive_the_disk(tmp_path: Path):
    items = three_items()
    items.write(tmp_path / "items.jsonl")
    read = Items.read(tmp_path / "items.jsonl")
    assert read.ids.tolist() == ["a", "b", "ü"]
    assert read.columns["target"].dtype.kind == "i"
    np.testing.assert_array_equal(read.columns["margin"], items.columns["margin"])
    assert [read.strata[index] for index in read.stratum_index] == ["first", "second", "first"]
    assert read.texts["answer"] == ["yes\n", "", "нет"]


def test_taken_items_may_repeat():
    taken = three_items().take(np.array([2, 2, 0]))
    assert len(taken) == 3
    assert taken.ids.tolist() == ["ü", "ü", "a"]
    assert taken.columns["target"].tolist() == [1, 1, 0]
    assert taken.stratum_index.tolist() == [0, 0, 0]


@pytest.mark.parametrize("text", ["", "{}", '{"id": "a"}', "not json"])
def test_a_damaged_file_is_told(tmp_path: Path, text: str):
    (tmp_path / "items.jsonl").write_text(text)
    with pytest.raises(CheckpointError, match="--again"):
        Items.read(tmp_path / "items.jsonl")


def test_a_line_separator_inside_a_text_is_no_line_end(tmp_path: Path):
    items = Items(
        np.array(["a"]), {"x": np.array([1])}, np.zeros(1, dtype=np.int64), ("all",), {"t": ["a\u2028b\x85c"]}
    )
    items.write(tmp_path / "items.jsonl")
    assert Items.read(tmp_path / "items.jsonl").texts["t"] == ["a\u2028b\x85c"]
