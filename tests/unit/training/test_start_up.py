"""What is decided and refused before the first step."""

import pytest

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.training.engine.decide import decide_engine, keep_decisions
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run, require_same_corpus


@pytest.fixture
def run(raw_recipe, corpus, tmp_path):
    return assemble_run(parse_recipe(raw_recipe, "test"), corpus, RunFolder(tmp_path), Ranks(), {})


def test_the_record_says_what_was_decided(run, corpus):
    record = RunRecord.read(run.folder.run_record)
    assert record.status == "running" and record.corpus_sha256 == corpus.manifest.content_sha256
    assert [phase.num_steps for phase in record.plan.phases] == list(run.course.phase_steps) == [8, 4]
    assert record.plan.total_tokens == 12 * 512 and record.engine == run.engine
    assert {"mlm", "token", "modernbert"} <= set(record.citations)


def test_what_was_decided_stays_decided(run, raw_recipe, corpus):
    record = RunRecord.read(run.folder.run_record)
    recipe = parse_recipe(raw_recipe, "test")
    again = assemble_run(recipe, corpus, run.folder, Ranks(), {}, before=record)
    assert again.course.phase_steps == run.course.phase_steps and again.engine.attention == run.engine.attention
    other = decide_engine(recipe, Ranks()).model_copy(update={"attention": "reference"})
    assert keep_decisions(other, record.engine).attention == record.engine.attention


def test_another_text_is_refused(run, corpus):
    record = RunRecord.read(run.folder.run_record).model_copy(update={"corpus_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="not the corpus that the run was begun with"):
        require_same_corpus(record, corpus)


def test_an_unknown_attention_is_refused_with_those_there_are(raw_recipe, corpus, tmp_path):
    recipe = parse_recipe(raw_recipe | {"engine": {"device": "cpu", "attention": "paded"}}, "test")
    with pytest.raises(RecipeError, match="'paded', did you mean 'padded'"):
        assemble_run(recipe, corpus, RunFolder(tmp_path), Ranks(), {})
    assert not RunFolder(tmp_path).run_record.exists()
