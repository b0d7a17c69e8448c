"""The tables of experiments are those of their records."""

import importlib.util

from tests.docs.conftest import ROOT


def test_every_table_is_that_of_its_record():
    spec = importlib.util.spec_from_file_location("fill_experiments", ROOT / "docs" / "fill_experiments.py")
    assert spec is not None and spec.loader is not None
    filler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(filler)
    written = filler.PAGE.read_text(encoding="utf-8")
    assert filler.PLACE.search(written)
    assert written == filler.filled(written), "run: .venv/bin/python docs/fill_experiments.py"
