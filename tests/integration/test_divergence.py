"""A run that is no better than a constant answer at its end says so, wherever someone looks."""

import pytest
from tests.integration.conftest import written

from maskwright.core.records.run import ResultRecord, RunFolder, RunRecord


def test_divergence_is_said_everywhere(maskwright, raw_recipe, tmp_path):
    raw = {**raw_recipe, "optimizer": {"name": "muon", "learning_rate": 100.0}, "probes": {}}
    said = maskwright("train", written(tmp_path / "recipe.yaml", raw), "--run", tmp_path / "run")
    assert said.code == 0, said.err
    folder = RunFolder(tmp_path / "run")
    result = RunRecord.read(folder.run_record).result
    assert result is not None and result.failure is not None
    figures = f"a cross-entropy of {result.held_out_cross_entropy:,.3f} nats"
    for text in (said.err, folder.report.read_text(), (folder.model / "README.md").read_text().replace("\\", "")):
        assert "Diverged, or learned nothing" in text and figures in text


@pytest.mark.parametrize(("ours", "has_failed"), [(5.9, False), (6.0, True), (None, False)])
def test_a_model_that_beats_a_constant_answer_is_not_said_to_fail(ours, has_failed):
    result = ResultRecord(
        step=1, num_tokens=1, seconds=1.0, final_loss=1.0, held_out_cross_entropy=ours, constant_cross_entropy=6.0
    )
    assert (result.failure is not None) == has_failed
