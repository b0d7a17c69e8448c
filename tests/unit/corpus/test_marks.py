"""Where sentences and paragraphs begin: in text, in tokens, on disk, in batches."""

import json
from itertools import pairwise

import numpy as np
import pytest

from maskwright.batching.row_stream import RowStream
from maskwright.core.batches import PARAGRAPH, SENTENCE, WORD
from maskwright.core.errors import CorpusError
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import open_corpus
from maskwright.corpus.marks import MARKS, require_marks, starts_in_text, tokens_at
from maskwright.corpus.prepare import prepare
from maskwright.tokenization.train_tokenizer import TokenizerConfig

TEXT = 'The court ruled. "Did it?" It did! So J. Smith won.\n\nA new paragraph, e.g. this one. The end.'


def sentences_of(text: str) -> list[str]:
    starts = [0, *starts_in_text(text)[SENTENCE], len(text)]
    return [text[begin:end].strip() for begin, end in pairwise(starts)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He came. She saw! Who? Me.", ["He came.", "She saw!", "Who?", "Me."]),
        ('"Did he?" Yes. (He did.) So', ['"Did he?"', "Yes.", "(He did.)", "So"]),
        ("3.14 is pi. It is.", ["3.14 is pi.", "It is."]),
        ("J. S. Bach wrote it. E.g. this.", ["J. S. Bach wrote it.", "E.g. this."]),
        ("Wait... what? Az út… hosszú. Ő jött.", ["Wait... what?", "Az út… hosszú.", "Ő jött."]),
        ("東京です。日本！「はい。」次", ["東京です。", "日本！", "「はい。」", "次"]),
        ("no end\nof a line", ["no end\nof a line"]),
        ("first\n \n\nsecond", ["first", "second"]),
        ("", [""]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


def test_a_paragraph_begins_after_a_blank_line() -> None:
    assert starts_in_text("a\n\nb\nc\n\t\n\n  d")[PARAGRAPH] == [3, 12]


def test_a_position_within_a_token_marks_that_token() -> None:
    assert tokens_at([0, 3, 4, 9], np.array([2, 4, 6])).tolist() == [True, True, True]
    assert tokens_at([], np.array([2, 4])).tolist() == [False, False]


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe", "characters"])
def test_marks_come_back_from_disk_as_text(kind: str, tmp_path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"{TEXT} Number {number}."}) + "\n" for number in range(40)))
    tokenizer = TokenizerConfig.model_validate({"kind": kind, "vocabulary_size": 320})
    data = DataConfig(data=str(path), held_out_fraction=0.1)
    manifest = prepare(data, tokenizer, tmp_path / "marked", seed=1, marks=MARKS)
    assert (manifest.format_version, manifest.marks) == (2, list(MARKS))
    corpus = open_corpus(tmp_path / "marked", verify=True)
    split, decode = corpus.split("train"), corpus.load_tokenizer().decode
    document = split.gather_tokens(np.array([3]), np.array([0]), split.document_lengths[3:4])
    expected = sentences_of(f"{TEXT} Number 1.")[:-1]
    starts = np.flatnonzero(document.marks[SENTENCE])
    found = [decode(part.tolist()).strip() for part in np.split(document.token_ids, starts)[1:]]
    squeezed = ["".join(sentence.split()) for sentence in found]
    assert squeezed[:-1] == ["".join(sentence.split()) for sentence in expected]
    assert document.marks[SENTENCE].sum() == len(expected) + 1 and document.marks[PARAGRAPH].sum() == 2
    assert (document.marks[SENTENCE] >= document.marks[PARAGRAPH]).all()

    plain = prepare(data, tokenizer, tmp_path / "plain", seed=1)
    assert (plain.format_version, plain.marks) == (1, [WORD])
    if kind != "unigram":  # whose scores differ from training to training
        assert plain.content_sha256 == manifest.content_sha256, "marks are no other text"
    assert plain.key != manifest.key


def test_batches_have_the_marks(tmp_path, text_file) -> None:
    data = DataConfig(data=str(text_file), held_out_fraction=0.1)
    prepare(data, TokenizerConfig(vocabulary_size=120), tmp_path / "corpus", seed=1, marks=MARKS)
    corpus = open_corpus(tmp_path / "corpus", verify=True)
    batch = RowStream(corpus.split("train"), corpus.vocabulary, 64, seed=3).batch(0, 8)
    assert set(batch.marks) == set(MARKS)
    is_first = (batch.layout.position_ids_T == 1) & (batch.document_starts_S[batch.layout.sequence_index_T.long()] == 0)
    is_text = batch.document_ids_S[batch.layout.sequence_index_T.long()] >= 0
    assert (batch.marks[SENTENCE] & is_text)[is_first & is_text].all()
    assert not batch.marks[SENTENCE][batch.layout.position_ids_T == 0].any()


def test_a_corpus_of_words_alone_is_refused_where_sentences_are_needed(corpus) -> None:
    assert corpus.manifest.marks == [WORD]
    with pytest.raises(CorpusError, match="where each sentence begins") as refusal:
        require_marks([WORD, SENTENCE], corpus.manifest.marks, "the sampler pairs")
    assert "prepare the text again" in str(refusal.value)
