"""Tables on the terminal: no word is cut, and what is left out is said to be."""

import pytest

from maskwright.reports.tables import Table
from maskwright.reports.terminal.print_tables import print_table, without_columns

ROW = ["Late masks, 50 %", "held out, cross entropy", "−0.190", "−0.303 to −0.076", "< 0.001", "3", "no difference"]
TABLE = Table(
    "differences",
    "Against plain masking",
    ["arm", "measure", "difference", "95 % interval", "p items", "seeds", "verdict"],
    [ROW],
    ["all", *["–"] * 6],
    ["A note."],
    frozenset({1, 6}),
)


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, **how: object) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(TABLE, **how)  # pyright: ignore[reportArgumentType]
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [30, 60, 80, 100, 200])
def test_no_word_is_cut(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = printed(capsys, monkeypatch, columns)
    assert "…" not in out
    assert set(" ".join([*TABLE.columns, *ROW]).split()) <= set(out.split())
    if columns >= 80:
        assert max(map(len, out.splitlines())) <= columns


def test_a_wide_terminal_has_every_row_on_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = printed(capsys, monkeypatch, 200, spare=["p items", "seeds"])
    (line,) = [line for line in out.splitlines() if line.startswith("Late")]
    assert all(cell in line for cell in ROW)
    assert "Not shown" not in out


def test_a_narrow_terminal_leaves_out_what_is_spare_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = printed(capsys, monkeypatch, 66, spare=["p items", "seeds"])
    assert "Not shown, as the terminal is narrow: p items, seeds." in " ".join(out.split())
    assert "0.001" not in out
    assert {"difference", "verdict", "−0.190", "note."} <= set(out.split())


def test_without_columns_keeps_the_rest_in_place() -> None:
    table = without_columns(TABLE, ["difference", "seeds"])
    assert table.columns == ["arm", "measure", "95 % interval", "p items", "verdict"]
    assert table.rows == [[ROW[0], ROW[1], ROW[3], ROW[4], ROW[6]]]
    assert table.total == ["all", *["–"] * 4]
    assert table.worded == {1, 4}
