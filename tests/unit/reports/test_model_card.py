"""The model card: metadata the hub takes, text that stays text, edits by hand that stay."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from maskwright.core.errors import CheckpointError
from maskwright.core.records.run import PhaseRecord, RunFolder, RunRecord
from maskwright.reports.formatting import clean, markdown_safe
from maskwright.reports.gather import gather
from maskwright.reports.model_card import mask_token_sentence, write_model_card


def test_the_hub_reads_the_metadata_and_the_scores(make_run: Callable[..., Path]):
    card = ModelCard.load(write_model_card(make_run()))
    assert card.data.pipeline_tag == "fill-mask"
    assert card.data.library_name == "transformers"
    assert "mlm" in card.data.tags
    assert "license" not in card.data.to_dict(), "nobody has said which"
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert results["Masked top-1 accuracy"] == 0.4385
    assert card.data.model_name == "small-legal-encoder"


def test_the_card_says_how_the_model_was_trained_and_how_good_it_is(make_run: Callable[..., Path]):
    text = write_model_card(make_run()).read_text()
    for expected in (
        *("arXiv:1810.04805", "6,553,600", "5 min", "12,077,023", "| 43.9 % | 4.1 % |", "Some Processor 9000"),
        *("mask rate 0.3", "AutoModelForMaskedLM", "ModernBertForMaskedLM", "removed documents 3"),
    ):
        assert expected in text, expected


def test_the_card_is_complete_without_editing(scored_run: Path):
    text = write_model_card(scored_run).read_text()
    for expected in (
        "| CoLA | matthews correlation | 48.5 ± 1.9 | 46.5 to 50.5 | 4 | 0.0 (majority) |",
        "| WNLI | – | – | – | – | – |",
        "| **average of 3 of 4** |  | **65.2** |  |  |  |",
        "| island effects | 47.0 | 45.5 to 48.5 | 2,000 | 3 |",
        "- CoLA, SST-2, RTE: The best step was chosen on the reported split",
        "| RTE | accuracy | 61.0 ± 1.2 | 56.0 ± 2.0 | 5.0 | 2.0 to 8.0 | &lt; 0.001 | 4 | small is better |",
        "0.00543 kWh, **estimated** over 5 min (assumed: 65 W for the processor, all the time)",
        "CO2: 0.00258 kg, by 0.475 kg of CO2 per kWh, the world's average",
        "(0.0828 hours)",
        "- BLiMP (evaluation): Warstadt et al. 2020, BLiMP, arXiv:1912.00582",
        "at most 512 tokens",
        "Left out: empty 17, duplicate 230",
        "learning rate: 0.001",
    ):
        assert expected in text, expected


def test_sessions_that_were_killed_are_missing_from_the_energy(make_run: Callable[..., Path]):
    energy = {"kwh": 0.1, "kg_co2": 0.04, "how": "measured by codecarbon", "seconds": 200, "assumptions": ["a", "b"]}
    text = write_model_card(make_run(energy=energy)).read_text()
    assert "**measured by codecarbon** over 3 min (sessions that were killed are not in it)" in text


def test_what_people_add_outlives_a_new_drawing(scored_run: Path):
    run = scored_run
    path = write_model_card(run)
    text = path.read_text().replace("library_name:", "license: apache-2.0\nlanguage: hu\nlibrary_name:", 1)
    begin = text.index("<!-- maskwright: generated")
    path.write_text(text[:begin] + "By the Legal Team.\n\n" + text[begin:] + "\n## Contact\n\nus\n")
    once = write_model_card(run).read_text()
    card = ModelCard(once)
    assert card.data.license == "apache-2.0"
    assert card.data.language == "hu"
    assert once.count("By the Legal Team.") == 1
    assert once.count("## Contact") == 1
    assert once.count("## Limits") == 1
    assert write_model_card(run).read_text() == once


def test_a_card_written_by_hand_is_kept_above_the_generated_part(make_run: Callable[..., Path]):
    run = make_run()
    (run / "model" / "README.md").write_text("---\nlicense: mit\n---\nAll by hand.\n")
    text = write_model_card(run).read_text()
    assert text.index("All by hand.") < text.index("## Scores")
    assert "license: mit" in text


def test_metadata_that_cannot_be_read_are_named(make_run: Callable[..., Path]):
    run = make_run()
    (run / "model" / "README.md").write_text("---\nlicense: [\n---\nAll by hand.\n")
    with pytest.raises(CheckpointError, match=r"README.md: the metadata"):
        write_model_card(run)


def test_hostile_names_and_text_stay_text(make_run: Callable[..., Path]):
    hostile = (
        "x\n---\nlicense: evil\n---\n# Title <script>alert(1)</script> [a](javascript:b) ![c](http://d) `e` ``` | f"
    )
    run = make_run(
        name=hostile,
        citations={hostile: hostile},
        recipe={"name": hostile, "description": hostile, "seed": 1},
        evaluation={
            "examples": [
                {
                    "text": f"{hostile} [MASK]",
                    "answer": hostile,
                    "predictions": [{"token": hostile, "probability": 0.1}],
                }
            ]
        },
    )
    text = write_model_card(run).read_text()
    metadata, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert "license" not in yaml.safe_load(metadata)
    outside_code, inside, after = body.partition("````yaml")
    assert inside, "the fence is longer than any run of backticks in the recipe"
    assert after.count("````") == 1
    for line in outside_code.splitlines():
        assert "<script" not in line
        assert not re.search(r"(?<!\\)\]\(", line)
        assert "http://" not in line
        assert line.count("|") - line.count("\\|") in (0, 3, 4, 5, 6) or not line.startswith("|")


@pytest.mark.parametrize(
    ("phases", "says"),
    [
        ((False, True), "the last 25% of the steps, with objective1, taught it to"),
        ((True, False), "Its last phase, objective1, showed the encoder no mask token"),
        ((True, True), ""),
    ],
)
def test_the_card_says_whether_the_mask_token_works(make_run: Callable[..., Path], phases: tuple[bool, ...], says: str):
    run = make_run()
    record = RunRecord.read(RunFolder(run).run_record)
    planned = [
        PhaseRecord(
            objective=f"objective{index}",
            sequence_length=32,
            num_steps=steps,
            flops_per_token=1.0,
            fills_masks="encoder" if is_at_input else "reader",
        )
        for index, (is_at_input, steps) in enumerate(zip(phases, (300, 100), strict=True))
    ]
    changed = record.model_copy(update={"plan": record.plan.model_copy(update={"phases": planned})})
    changed.write(RunFolder(run).run_record)
    assert mask_token_sentence(gather(run)).find(says) >= 0
    text = write_model_card(run).read_text(encoding="utf-8")
    assert ("mask token" in text.partition("## How to use")[0]) == bool(says)


def test_a_run_without_a_model_is_refused(make_run: Callable[..., Path]):
    with pytest.raises(CheckpointError, match="does not exist"):
        write_model_card(make_run(is_finished=False))


def test_markdown_safe_leaves_plain_words_and_numbers_alone():
    assert markdown_safe("Devlin et al. 2019, arXiv:1810.04805") == "Devlin et al. 2019, arXiv:1810.04805"
    assert markdown_safe(3) == 3
    assert markdown_safe("# a\n- b") == "\\# a - b"
    assert markdown_safe("1. a") == "&#49;. a"
    assert "@" not in str(markdown_safe("me@example.org www.example.org"))


def test_clean_keeps_every_script_and_replaces_controls():
    kept = "Árvíztűrő 日本語 עברית 👩‍👩‍👧 a\tb\n"
    assert clean(kept) == kept
    assert clean("a\x00\x1b[31mb\u202ec\ud800") == "a��[31mb�c�"
