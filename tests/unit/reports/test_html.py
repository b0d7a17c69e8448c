"""The report: self-contained, harmless whatever the text, drawn also for unfinished runs."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.conftest import raw_record
from tests.unit.reports.conftest import held_out_record

from maskwright.core.errors import CheckpointError
from maskwright.core.records.evaluation import TableRecord
from maskwright.core.records.run import RunFolder
from maskwright.reports.html import write_report
from maskwright.reports.model_card import write_model_card
from maskwright.reports.terminal.print_tables import print_records

PAYLOADS = [
    "<script>alert(1)</script>",
    "</style></title></pre><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "javascript:alert(1)",
    "<svg onload=alert(1)><foreignObject>",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!-- --><iframe srcdoc='x'>",
    "$\\frac{1}{0}$ \\url{x}",
]
PAYLOAD = " ".join(PAYLOADS) + "\x00\x07\x1b[31m\x9b\u202e\u2066"
ALLOWED_URLS = re.compile(r"#|$")


class Page(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def add_hostile_scores(run: Path, records: dict[str, Callable[..., Any]]) -> Path:
    """Add scores and a comparison whose every name, title and note is hostile."""
    folder = RunFolder(run)
    table = TableRecord(name=PAYLOAD, title=PAYLOAD, tasks={"task": PAYLOAD, "none": PAYLOAD})
    texts = {"citation": PAYLOAD, "notes": [PAYLOAD], "kind": PAYLOAD, "settings": {"hub": PAYLOAD, PAYLOAD: PAYLOAD}}
    values = {PAYLOAD: {PAYLOAD: 0.5}}
    scores = records["fine_tuned"]("task", PAYLOAD, PAYLOAD, [0.5, 0.6], table, baselines=values, **texts)
    parts = {f"{PAYLOAD} {part}".replace("/", "|"): {"accuracy": 0.5, "low": 0.4, "high": 0.6} for part in "ab"}
    pairs = records["blimp"](title=PAYLOAD, groups=parts, **texts)
    row = records["comparison"]().rows[0].model_dump() | dict.fromkeys(("title", "metric", "verdict"), PAYLOAD)
    other = records["comparison"](model=PAYLOAD, other=PAYLOAD, notes=[PAYLOAD], rows=[row])
    for name, record in (("task", scores), ("pairs", pairs), ("against/other", other)):
        record.write(folder.evaluation / f"{name}.json")
    return run


def hostile_run(make_run: Callable[..., Path]) -> Path:
    """A run where every text that a user, a corpus or a plug-in gives is hostile."""
    example = {"text": f"{PAYLOAD} [MASK] {PAYLOAD}", "answer": PAYLOAD}
    audit = {
        "kind": PAYLOAD, "vocabulary_size": 99, "num_sampled_documents": 1, "unknown_rate": 0.0, "tokens_per_word": 1.0,
        "characters_per_token": 1.0, "character_coverage": 1.0, "sample_text": PAYLOAD, "sample_tokens": PAYLOADS,
    }  # fmt: skip
    plan = {
        "num_parameters": 10, "num_body_parameters": 5, "total_flops": 1.0, "total_tokens": 1, "total_steps": 1,
        "phases": [{"objective": PAYLOAD, "sequence_length": 8, "num_steps": 1, "flops_per_token": 1.0}] * 2,
    }  # fmt: skip
    return make_run(
        name=PAYLOAD,
        probe_name=f"held_out_{PAYLOAD}",
        recipe={PAYLOAD: PAYLOAD, "description": PAYLOAD, "phases": [{"objective": {PAYLOAD: PAYLOAD}}]},
        citations={PAYLOAD: PAYLOAD},
        environment={PAYLOAD: PAYLOAD},
        plan=plan,
        corpus={
            "files": [PAYLOAD],
            "dropped": {PAYLOAD: 3},
            "decontamination": {PAYLOAD: 1},
            "audit": audit,
            "created": PAYLOAD,
        },
        energy={"kwh": 1, "kg_co2": 1, "how": "estimated", "seconds": 1, "assumptions": [PAYLOAD, PAYLOAD]},
        evaluation={
            "title": PAYLOAD,
            "notes": [PAYLOAD],
            "settings": {PAYLOAD: PAYLOAD},
            "scores": {PAYLOAD: 1.0, "cross_entropy": 2.0, "top1_accuracy": 0.5},
            "baselines": {PAYLOAD: {PAYLOAD: 2.0}},
            "examples": [example | {"predictions": [{"token": PAYLOAD, "probability": 0.5}]}],
        },
    )


def test_the_report_shows_what_was_run(make_run: Callable[..., Path]):
    text = write_report(make_run()).read_text()
    words = " ".join(" ".join(Page(text).text).split())
    for expected in (
        *("small-legal-encoder", "43.9 %", "4.1 %", "10.6 times", "12,077,023", "▁dismiss", "1.7e-06", "mask rate 0.3"),
        *(
            "ModernBertForMaskedLM",
            "arXiv:1810.04805",
            "weight_decay: 0.01",
            "padded",
            "empty 17",
            "removed documents 3",
        ),
    ):
        assert expected in words, expected


def test_a_strict_policy_forbids_everything_but_inline_style(make_run: Callable[..., Path]):
    text = write_report(make_run()).read_text()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("meta", "content", policy) in Page(text).attributes
    assert text.index("Content-Security-Policy") < text.index("<style")


@pytest.mark.parametrize("has_scores", [False, True])
def test_hostile_text_stays_text(
    make_run: Callable[..., Path], records: dict[str, Callable[..., Any]], has_scores: bool
):
    run = hostile_run(make_run)
    if has_scores:
        add_hostile_scores(run, records)
    text = write_report(run).read_text()
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "img", "link", "form", "base", "foreignobject", "a"} & set(
        page.tags
    )
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "xlink:href", "action", "srcdoc"):
            assert ALLOWED_URLS.match(value), (tag, name, value)
    assert sum(PAYLOADS[0] in piece for piece in page.text) >= 12, "the payloads are shown, as text"
    assert "49" not in "".join(piece for piece in page.text if "{{" in piece)


def test_no_control_or_direction_character_reaches_the_page(
    make_run: Callable[..., Path], records: dict[str, Callable[..., Any]]
):
    run = add_hostile_scores(hostile_run(make_run), records)
    write_report(run)
    write_model_card(run)
    for path in (RunFolder(run).report, RunFolder(run).model / "README.md"):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", path.read_text()), path


def test_charts_are_well_formed_and_their_ids_are_unique(make_run: Callable[..., Path]):
    for run in (make_run(), hostile_run(lambda **changes: make_run_beside(make_run, **changes))):
        charts = re.findall(r"<svg .*?</svg>", write_report(run).read_text(), flags=re.DOTALL)
        assert len(charts) >= 6
        ids = re.findall(r' id="([^"]*)"', "".join(charts))
        assert len(ids) == len(set(ids)) >= 6
        for chart in charts:
            root = ElementTree.fromstring(chart)
            assert root.attrib["aria-label"]


def make_run_beside(make_run: Callable[..., Path], **changes: object) -> Path:
    """`make_run` in another place, for a test that needs two runs."""
    return make_run(at="beside/run", **changes)


def test_scores_of_suites_pairs_and_comparisons_are_shown(scored_run: Path):
    text = write_report(scored_run).read_text()
    words = " ".join(" ".join(Page(text).text).split())
    for expected in (
        *("GLUE (development sets)", "48.5 ± 1.9", "46.5 to 50.5", "average of 3 of 4", "Not scored: WNLI.", "ddof 1"),
        *("subject verb agreement", "74.0", "72.5 to 75.5", "chance", "The best step was chosen on the reported split"),
        *("small against runs/other", "no evidence of a difference", "46.2 (12), 50.8 (13)", "AG News"),
        *("0.00543 kWh, 0.00258 kg of CO2", "assumed: 65 W for the processor"),
    ):
        assert expected in words, expected
    assert "principle A" not in words, "paradigms are in the record"


def test_curves_of_minimal_pairs_are_drawn_beside_those_of_held_out_text(make_run: Callable[..., Path]):
    run = make_run()
    lines = [
        {"step": step, "tokens": 16384 * step, "blimp_accuracy": 0.5 + step / 1000, "blimp_binding": 0.4}
        for step in (401, 402)
    ]
    with RunFolder(run).metrics.open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    text = write_report(run).read_text()
    assert 'aria-label="Minimal pairs during training; at the end 0.902, chance is 0.5"' in text


def test_clean_figures_stand_first_and_examples_say_how_often_they_are_right(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    group = {"name": "the tenth it is surest of", "num_tokens": 30, "num_right": 12, "mean_probability": 0.41}
    example = {"text": "A [MASK].", "answer": "word", "predictions": [{"token": "word", "probability": 0.5}]}
    record = held_out_record(
        scores={"clean_top1_accuracy": 0.2, "top1_accuracy": 0.3, "bits_per_byte": 1.234, "num_scored_tokens": 9},
        baselines={"unigram": {"clean_top1_accuracy": 0.05, "top1_accuracy": 0.06, "bits_per_byte": 2.1}},
        examples=[example | {"group": group}, example | {"group": group | {"name": "the rest"}}],
        notes=["Clean tokens stand in no run of 13."],
    )
    changes = record.model_dump(include={"scores", "baselines", "examples", "notes"})
    run = make_run(evaluation=changes, corpus={"shared_runs": {"run_tokens": 13, "num_tokens": 24381, "sha256": "0"}})
    card = write_model_card(run).read_text().partition("\n---\n")[2]
    texts = " ".join(Page(write_report(run).read_text()).text), card
    print_records([record])
    tile = "20.0 % unigram baseline 5.0 % · 4.0 times that · with tokens of runs that training has too 30.0 %"
    assert tile in " ".join(texts[0].split())
    for text in (*texts, capsys.readouterr().out):
        assert text.index("clean top-1") < text.index("bits per byte")
        one_line = " ".join(text.split())
        assert "The tenth it is surest of (30 hidden tokens): the first guess has 41.0 % on average" in one_line
        assert "right for 40.0 %" in one_line
        assert "The rest (30 hidden tokens)" in one_line
        assert "Clean tokens stand in no run of 13." in one_line
    for text in texts:
        assert "20.0 % of the tokens" in " ".join(text.split())


def test_records_of_older_versions_are_drawn(make_run: Callable[..., Path]):
    """Before there were titles, seeds, suites and energy."""
    run = make_run()
    newer = {"title", "kind", "citation", "table", "main_metric", "deviations", "intervals", "groups", "seeds", "notes"}
    for path, dropped in ((RunFolder(run).evaluation / "held_out.json", newer), (run / "run.json", {"energy"})):
        values = raw_record(path)
        path.write_text(json.dumps({key: value for key, value in values.items() if key not in dropped}))
    words = " ".join(Page(write_report(run).read_text()).text)
    assert "Held out" in words or "held out" in words
    assert "43.9 %" in words
    assert "Energy and CO2: not recorded" in write_model_card(run).read_text()


def test_equal_records_give_equal_bytes(scored_run: Path):
    run = scored_run
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_an_unfinished_run_is_drawn_from_what_is_there(make_run: Callable[..., Path], status: str):
    words = " ".join(Page(write_report(make_run(is_finished=False, status=status)).read_text()).text)
    assert status in words
    assert "No model has been exported" in words
    assert "Fill-mask examples" not in words


def test_a_run_that_has_logged_nothing_is_drawn(make_run: Callable[..., Path]):
    run = make_run(is_finished=False)
    RunFolder(run).metrics.unlink()
    assert "No training step has been logged" in write_report(run).read_text()


def test_a_torn_line_and_repeated_steps_of_a_resumed_run_are_understood(make_run: Callable[..., Path]):
    from maskwright.reports.gather import gather

    run = make_run()
    again = {"step": 400, "tokens": 6_553_600, "seconds": 301.0, "phase": 1, "loss": 2.5}
    with RunFolder(run).metrics.open("a") as stream:
        stream.write(json.dumps(again) + '\n{"step": 401, "tok')
    story = gather(run)
    assert len(story.training) == 400
    assert story.training[-1] == again
    assert story.num_unreadable_lines == 1
    assert "1 unreadable" in write_report(run).read_text()


def test_a_corpus_that_is_gone_or_changed_is_said_and_not_shown(make_run: Callable[..., Path]):
    run = make_run()
    manifest = run.parent / "corpus" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("40123", "40124"))
    assert "is damaged" in write_report(run).read_text()
    manifest.write_text(json.dumps(raw_record(manifest)))
    assert "is not the one of this run any more" in write_report(run).read_text()
    manifest.unlink()
    text = write_report(run).read_text()
    assert "is not on this machine" in text
    assert "12,077,023" not in text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        write_report(tmp_path)


def test_losses_that_are_not_finite_do_not_stop_the_report(make_run: Callable[..., Path]):
    run = make_run(is_finished=False, status="failed")
    with RunFolder(run).metrics.open("a") as stream:
        stream.write('{"step": 401, "tokens": 6570000, "seconds": 300.0, "phase": 1, "loss": NaN}\n')
    assert "failed" in write_report(run).read_text()
