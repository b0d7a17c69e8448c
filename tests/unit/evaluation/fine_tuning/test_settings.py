"""Presets fill what was not given."""

import pytest
from pydantic import ValidationError

from maskwright.evaluation.fine_tuning.settings import FineTuning, presets


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid_and_says_where_it_is_from(name):
    assert FineTuning.model_validate({"preset": name}).preset == name
    assert presets()[name].read_text().startswith("# ")


def test_what_is_given_wins_over_the_preset_and_the_preset_over_the_defaults():
    chosen = FineTuning.model_validate({"preset": "babylm2024_lora", "epochs": 2, "lora": {"rank": 4}})
    assert (chosen.epochs, chosen.learning_rate, chosen.lora.rank, chosen.lora.dropout) == (2, 3e-4, 4, 0.1)
    assert chosen.held_back_fraction == FineTuning().held_back_fraction


def test_the_protocol_of_babylm_2023():
    chosen = FineTuning.model_validate({"preset": "babylm2023"})
    assert (chosen.learning_rate, chosen.batch_size, chosen.epochs, chosen.max_length) == (5e-5, 64, 10, 128)
    assert (chosen.evaluate_every_steps, chosen.patience, chosen.min_improvement) == (200, 10, 0.001)
    assert (chosen.warmup_fraction, chosen.weight_decay, chosen.clip_norm) == (0.0, 0.0, 1.0)
    assert (chosen.selection, chosen.select_by, chosen.precision) == ("reported", "f1_or_accuracy", "float32")


def test_a_dumped_section_reads_back_as_itself():
    chosen = FineTuning.model_validate({"preset": "babylm2023", "dropout": None, "patience": None})
    assert FineTuning.model_validate(chosen.model_dump()) == chosen


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "babylm23"}, "did you mean 'babylm2023'"),
        ({"learningrate": 1}, "Extra inputs"),
        ({"epochs": 0}, "greater than or equal to 1"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(ValidationError, match=message):
        FineTuning.model_validate(given)


def test_the_grid_is_every_combination():
    search = {"learning_rate": [1e-4, 3e-4], "epochs": [2, 3]}
    assert FineTuning.model_validate({"search": search}).grid == [
        {"learning_rate": 1e-4, "epochs": 2},
        {"learning_rate": 1e-4, "epochs": 3},
        {"learning_rate": 3e-4, "epochs": 2},
        {"learning_rate": 3e-4, "epochs": 3},
    ]
    assert FineTuning().grid == [{}]


@pytest.mark.parametrize(("width", "rate"), [(64, 1e-3), (256, 1e-3), (384, 4.44e-4), (768, 1.11e-4)])
def test_the_default_learning_rate_follows_the_width(width, rate):
    assert FineTuning().for_width(width).peak_learning_rate == pytest.approx(rate)
    assert FineTuning(learning_rate=3e-5).for_width(width).peak_learning_rate == 3e-5


def test_the_search_is_around_the_default_of_the_width():
    grid = FineTuning(preset="search").for_width(768).grid
    assert [each["learning_rate"] for each in grid] == pytest.approx([3.33e-5, 1.11e-4, 3.33e-4])


def test_two_lists_of_rates_are_refused():
    with pytest.raises(ValidationError, match="both say which rates to try"):
        FineTuning(search={"learning_rate": [1e-3], "rate_factors": [1.0]})


def test_rates_that_are_given_stand_instead_of_those_of_a_preset_and_as_they_are():
    given = FineTuning(preset="search", search={"learning_rate": [1e-4], "epochs": [2]})
    assert given.for_width(64).grid == [{"learning_rate": 1e-4, "epochs": 2}]
    assert FineTuning(learning_rate=1.2345e-4).for_width(64).peak_learning_rate == 1.2345e-4
