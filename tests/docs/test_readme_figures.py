"""A figure in the README and in docs/measured.md is the one in its record."""

import json
import re

from tests.docs.conftest import ROOT

ROW = re.compile(r"^\|(?P<cells>.*)\|\s*<!-- record: (?P<file>\S+) (?P<key>\S+) -->[ \t]*$", re.MULTILINE)
PAGES = ("README.md", "docs/measured.md")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def results_of(readme: str) -> str:
    """Return the section with the results."""
    return readme.partition("\n## Results\n")[2].partition("\n## ")[0]


def problems(readme: str) -> list[str]:
    """Return what is wrong with the rows of figures: those without a record, and those that differ from it."""
    section = results_of(readme)
    found = []
    marked = {match.group(0): match for match in ROW.finditer(section)}
    rows = [line for line in section.splitlines() if line.startswith("|") and NUMBER.search(line.split("|")[2])]
    found += [f"no record: {line}" for line in rows if line not in marked]
    for line, match in marked.items():
        value = json.loads((ROOT / match["file"]).read_text(encoding="utf-8"))
        for part in match["key"].split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        shown = NUMBER.search(match["cells"].split("|")[1])
        decimals = len(shown[0].partition(".")[2]) if shown else 0
        if shown is None or float(shown[0].replace(",", "")) != round(float(value), decimals):
            found.append(f"the record says {value}: {line}")
    return found


def test_every_figure_is_that_of_its_record():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert ROW.search(results_of(text)), page
        assert problems(text) == [], page


def test_wrong_figures_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "record.json").write_text('{"speed": {"ratios": [1.0, 3.46]}}')
    head = "# Title\n\n## Results\n\n| what | figure |\n|---|---|\n"
    marker = " <!-- record: record.json speed.ratios.1 -->\n"
    assert problems(head + "| tokens/s, times | 3.5 |" + marker) == []
    assert len(problems(head + "| tokens/s, times | 3.6 |" + marker)) == 1
    assert len(problems(head + "| tokens/s, times | 3.5 |\n")) == 1
