"""What is written into shards comes back; every altered byte is found."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.core.errors import CorpusError
from maskwright.core.records.corpus import ShardRecord, SplitRecord
from maskwright.corpus.corpus import TokenSplit
from maskwright.corpus.marks import MARKS, MarkedTokens
from maskwright.corpus.shards import Shard, ShardFormat, SplitWriter, check_checksums

SHA256 = "ab" * 32


def split_record(shards: list[ShardRecord]) -> SplitRecord:
    return SplitRecord(
        shards=shards,
        num_documents=sum(shard.num_documents for shard in shards),
        num_words=0,
        num_tokens=sum(shard.num_tokens for shard in shards),
        num_text_bytes=0,
    )


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 600), max_size=8),
    vocabulary_size=st.sampled_from([100, 2**16, 2**16 + 1, 300_000]),
    shard_bytes=st.sampled_from([1, 50, 200, 10_000]),
    seed=st.integers(0, 1000),
    num_marks=st.integers(1, 3),
)
def test_documents_of_any_length_over_any_shards_come_back(
    lengths: list[int],
    cuts: list[int],
    vocabulary_size: int,
    shard_bytes: int,
    seed: int,
    num_marks: int,
    tmp_path_factory,
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    random = np.random.default_rng(seed)
    tokens = random.integers(0, vocabulary_size, sum(lengths))
    marks = {mark: random.random(len(tokens)) < 0.5 for mark in MARKS[:num_marks]}
    ends = np.cumsum(lengths)
    form = ShardFormat(vocabulary_size, SHA256, MARKS[:num_marks])
    writer = SplitWriter(folder, "train", form, shard_bytes)
    borders = sorted({0, len(tokens), *(min(cut, len(tokens)) for cut in cuts)})
    num_ended = num_empty = 0
    for begin, end in pairwise(borders if len(borders) > 1 else [0, 0]):
        num_here = int(np.searchsorted(ends, end, side="right")) - num_ended
        here = ends[num_ended : num_ended + num_here] - begin
        part = MarkedTokens(tokens[begin:end], {mark: starts[begin:end].copy() for mark, starts in marks.items()})
        num_empty += int((~writer.append(part, here)).sum())
        num_ended += num_here
    records = writer.close()
    documents = [(end - length, length) for end, length in zip(ends, lengths, strict=True) if length]
    if not documents:
        assert records == []
        return
    for start, _ in documents:
        for starts in marks.values():
            starts[start] = True
    split = TokenSplit(folder, split_record(records), form)
    assert num_empty == lengths.count(0)
    assert split.document_lengths.tolist() == [length for _, length in documents]
    asked = random.integers(0, len(documents), 12)
    firsts = np.array([random.integers(0, documents[index][1]) for index in asked])
    sizes = np.array(
        [random.integers(0, documents[index][1] - start + 1) for index, start in zip(asked, firsts, strict=True)]
    )
    found = split.gather_tokens(asked, firsts, sizes)
    positions = [
        np.arange(documents[i][0] + a, documents[i][0] + a + n) for i, a, n in zip(asked, firsts, sizes, strict=True)
    ]
    assert np.array_equal(found.token_ids, tokens[np.concatenate(positions)]) and found.token_ids.dtype == np.int64
    assert tuple(found.marks) == form.marks
    for mark, starts in marks.items():
        assert np.array_equal(found.marks[mark], starts[np.concatenate(positions)])
        assert found.marks[mark].dtype == np.bool_


def marked(token_ids: np.ndarray, *starts: np.ndarray) -> MarkedTokens:
    return MarkedTokens(token_ids, dict(zip(MARKS, starts, strict=False)))


def written(folder: Path, form: ShardFormat) -> ShardRecord:
    writer = SplitWriter(folder, "train", form)
    writer.append(
        marked(np.arange(50), *(np.arange(50) % step == 0 for step in (3, 11, 20)[: len(form.marks)])),
        np.array([20, 50]),
    )
    (record,) = writer.close()
    return record


def test_an_abandoned_document_leaves_nothing(tmp_path: Path) -> None:
    form = ShardFormat(100, SHA256)
    writer = SplitWriter(tmp_path, "train", form)
    writer.append(marked(np.arange(11), np.ones(11, bool)), np.array([5]))
    writer.append(marked(np.arange(11), np.ones(11, bool)), np.array([], np.int64))
    writer.abandon_document()
    writer.append(marked(np.arange(40, 47), np.arange(7) == 0), np.array([7]))
    split = TokenSplit(tmp_path, split_record(writer.close()), form)
    tokens = split.gather_tokens(np.array([0, 1]), np.array([0, 0]), np.array([5, 7]))
    assert tokens.token_ids.tolist() == [0, 1, 2, 3, 4, *range(40, 47)]
    assert tokens.word_starts.tolist() == [True] * 6 + [False] * 6


FORM = ShardFormat(100, SHA256, MARKS)


@pytest.mark.parametrize("kind", FORM.kinds)
def test_every_byte_altered_is_found_and_the_file_named(kind: str, tmp_path: Path) -> None:
    form = FORM
    record = written(tmp_path, form)
    path = tmp_path / (record.name + kind)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorpusError, match=path.name):
            Shard(tmp_path, record, form)
            check_checksums(tmp_path, record)
    path.write_bytes(whole)
    check_checksums(tmp_path, record)


FORM = ShardFormat(100, SHA256, MARKS)


@pytest.mark.parametrize("kind", FORM.kinds)
def test_a_truncated_or_missing_file_is_found_without_reading_it(kind: str, tmp_path: Path) -> None:
    form = FORM
    record = written(tmp_path, form)
    path = tmp_path / (record.name + kind)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorpusError, match=rf"{path.name} has .* bytes[\s\S]*prepare it again"):
        Shard(tmp_path, record, form)
    path.unlink()
    with pytest.raises(CorpusError, match=f"{path.name} could not be read"):
        Shard(tmp_path, record, form)


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    record = written(tmp_path, ShardFormat(100, SHA256))
    for form in (ShardFormat(101, SHA256), ShardFormat(100, "cd" * 32)):
        with pytest.raises(CorpusError, match="another tokenizer"):
            Shard(tmp_path, record, form)
