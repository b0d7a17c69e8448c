"""The tables of experiments are those of their records."""

import importlib.util
from types import ModuleType

from tests.docs.conftest import ROOT


def module_of(name: str) -> ModuleType:
    """Return a script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_that_of_its_record():
    filler = module_of("fill_experiments")
    written = filler.PAGE.read_text(encoding="utf-8")
    assert filler.PLACE.search(written)
    assert written == filler.filled(written), "run: .venv/bin/python docs/fill_experiments.py"


def test_the_pictures_of_mask_rates_are_those_of_the_record_and_of_the_table():
    drawer = module_of("draw_mask_rates")
    record = drawer.RecipeComparisonRecord.read(drawer.RECORD)
    for name, measure, shown in (("held_out", "held_out", "{:.3f}"), ("fine_tuned", "sst2", "{:.1f}")):
        factor = 100 if measure == "sst2" else 1
        picture = (drawer.DOCS / f"mask_rates_{name}.svg").read_text(encoding="utf-8")
        for rate, score in zip(drawer.RATES, drawer.scores(record, measure), strict=True):
            assert f"{rate} % {shown.format(factor * score)}" in picture, (
                "run: .venv/bin/python docs/draw_mask_rates.py"
            )
    table = (drawer.DOCS / "masking.md").read_text(encoding="utf-8")
    for index, rate in enumerate(drawer.RATES):
        assert f"| {rate} % | {' | '.join(str(row[index]) for row in drawer.PUBLISHED.values())} |" in table
