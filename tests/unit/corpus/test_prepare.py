"""Text to an opened corpus: complete, deterministic, split by document, cached, and never half written."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import CorpusError
from maskwright.core.files import sha256_of_file
from maskwright.core.integrity import SUMS
from maskwright.core.records.corpus import CorpusManifest
from maskwright.corpus import cleaning, encoding
from maskwright.corpus import prepare as preparing
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import preparation_key, prepare
from maskwright.corpus.sources import text
from maskwright.tokenization.folder import load_tokenizer, save_tokenizer
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

QUESTION = "Why did seven tired lawyers bring every single one of their old green books here?"
SMALL = TokenizerConfig(vocabulary_size=300)


def sentence(number: int) -> str:
    names = ("court", "appeal", "judge", "walker", "garden", "teacher", "river")
    chosen = np.random.default_rng(number).choice(names, 8)
    return f"The {' and the '.join(chosen)} met {number} times, said the [MASK]."


def write_documents(folder: Path, numbers: range | list[int]) -> Path:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": sentence(number)}) + "\n" for number in numbers))
    return path


def made(
    path: Path | tuple[str, ...], folder: Path, tokenizer: TokenizerConfig = SMALL, seed: int = 0, **data
) -> Corpus:
    names = path if isinstance(path, tuple) else str(path)
    prepare(DataConfig(data=names, **data), tokenizer, folder, seed)
    return open_corpus(folder, verify=True)


def documents(corpus: Corpus, split: str) -> list[list[int]]:
    found = corpus.split(split)
    ids, lengths = np.arange(found.num_documents), found.document_lengths
    tokens = found.gather_tokens(ids, np.zeros_like(ids), lengths).token_ids
    return [part.tolist() for part in np.split(tokens, np.cumsum(lengths)[:-1])]


def checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): sha256_of_file(path) for path in files}


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe", "characters"])
def test_every_document_arrives_in_one_split_as_the_tokenizer_encodes_it(kind: str, tmp_path: Path) -> None:
    path = write_documents(tmp_path, range(200))
    config = TokenizerConfig(kind=kind, vocabulary_size=300)  # pyright: ignore[reportArgumentType]
    corpus = made(path, tmp_path / "corpus", config, held_out_fraction=0.1)
    backend = corpus.load_tokenizer().backend_tokenizer
    backend.encode_special_tokens = True
    encodings = [backend.encode(sentence(number), add_special_tokens=False) for number in range(200)]
    train, held_out = documents(corpus, "train"), documents(corpus, "held_out")
    assert sorted(train + held_out) == sorted(encoding.ids for encoding in encodings)
    assert 5 < len(held_out) < 40
    special = set(corpus.vocabulary.special_ids) - {corpus.vocabulary.unk_id}
    assert not special & {token for document in train + held_out for token in document}
    assert (
        corpus.unigram_counts_V.tolist()
        == np.bincount(np.concatenate(train), minlength=corpus.vocabulary.size).tolist()
    )
    by_ids = {tuple(encoding.ids): encoding.word_ids for encoding in encodings}
    found = corpus.split("train")
    for index, document in enumerate(train):
        starts = found.gather_tokens(
            np.array([index]), np.array([0]), found.document_lengths[index : index + 1]
        ).word_starts
        words = np.array(by_ids[tuple(document)])
        assert starts.tolist() == [True, *(words[1:] != words[:-1]).tolist()]


def test_the_manifest_counts_documents_words_bytes_and_what_was_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("egy két őz\n\nhárom".encode() + b"\xff \xfe")
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "c.txt").write_text("\x07\n\nnégy öt hat")
    corpus = made(tmp_path, tmp_path / "out" / "corpus", documents="paragraph", held_out_fraction=0.3)
    manifest = corpus.manifest
    splits = manifest.splits.values()
    assert sum(split.num_words for split in splits) == 8
    assert sum(split.num_text_bytes for split in splits) == 12 + 13 + 13
    assert sum(split.num_documents for split in splits) == 3
    assert manifest.dropped == {"empty": 1, "invalid UTF-8": 2, "without tokens": 1}
    assert manifest.audit.kind == "wordpiece"
    assert manifest.audit.num_sampled_documents == manifest.splits["held_out"].num_documents


def test_the_same_preparation_gives_the_same_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    path = write_documents(tmp_path, range(150))
    first = made(path, tmp_path / "a")
    assert checksums(made(path, tmp_path / "b").folder) == checksums(first.folder)
    assert documents(made(path, tmp_path / "c", seed=1), "held_out") != documents(first, "held_out")


def test_batches_and_threads_do_not_change_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_documents(tmp_path, range(150))
    first = made(path, tmp_path / "a")
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 100)
    monkeypatch.setattr(cleaning, "TEXT_CHARACTERS", 30)
    assert checksums(made(path, tmp_path / "b").folder) == checksums(first.folder)


@pytest.mark.parametrize("num_documents", [2, 3, 10])
@pytest.mark.parametrize("fraction", [0.0001, 0.999])
def test_both_splits_have_a_document_whatever_the_size(num_documents: int, fraction: float, tmp_path: Path) -> None:
    corpus = made(write_documents(tmp_path, range(num_documents)), tmp_path / "corpus", held_out_fraction=fraction)
    sizes = [corpus.split(split).num_documents for split in ("train", "held_out")]
    assert sum(sizes) == num_documents
    assert min(sizes) == 1


def test_the_end_of_a_single_document_is_held_out_and_its_copies_are_left_out(tmp_path: Path) -> None:
    whole = " ".join(map(sentence, range(100)))
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(whole)
    corpus = made(tmp_path, tmp_path / "out" / "corpus", TokenizerConfig(kind="characters"), held_out_fraction=0.1)
    (train,), (held_out,) = documents(corpus, "train"), documents(corpus, "held_out")
    tokenizer = corpus.load_tokenizer()
    assert tokenizer.decode(train) + tokenizer.decode(held_out) == whole
    assert len(held_out) == pytest.approx(0.1 * len(whole), abs=2)


def test_a_copy_of_a_held_out_document_is_never_trained_on(tmp_path: Path) -> None:
    corpus = made(write_documents(tmp_path, [*range(60), *range(60)]), tmp_path / "corpus", held_out_fraction=0.2)
    train, held_out = (set(map(tuple, documents(corpus, split))) for split in ("train", "held_out"))
    assert len(held_out) > 3
    assert not train & held_out


def test_the_tokenizer_never_sees_held_out_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def spy(texts: list[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
        seen.extend(texts)
        return train_tokenizer(texts, config)

    monkeypatch.setattr(preparing, "train_tokenizer", spy)
    corpus = made(write_documents(tmp_path, range(100)), tmp_path / "corpus", held_out_fraction=0.2)
    assert len(seen) == corpus.split("train").num_documents


def test_a_sample_of_the_text_is_drawn_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def spy(texts: list[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
        seen.extend(texts)
        return train_tokenizer(texts, config)

    monkeypatch.setattr(preparing, "train_tokenizer", spy)
    config = TokenizerConfig(vocabulary_size=300, sample_bytes=10_000)
    made(write_documents(tmp_path, range(1000)), tmp_path / "corpus", config)
    size = sum(map(len, seen))
    assert 2_000 < size < 10_000
    numbers = [int(part.split(" times")[0].split()[-1]) for part in seen]
    assert min(numbers) < 200
    assert max(numbers) > 800


def test_a_sample_smaller_than_any_text_still_holds_one(tmp_path: Path) -> None:
    config = TokenizerConfig(vocabulary_size=300, sample_bytes=1)
    assert made(write_documents(tmp_path, range(50)), tmp_path / "corpus", config).vocabulary.size > 20


def test_documents_with_evaluation_text_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "PIECE_CHARACTERS", 200)
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.txt").write_text("\n".join(sentence(1000 * number + line) for line in range(30)))
    with (folder / "07.txt").open("a") as file:
        file.write(f"\n{QUESTION}")
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"text": QUESTION.upper()}))
    settings = {"documents": "file", "decontaminate_against": (str(tmp_path / "evaluation.jsonl"),)}
    corpus = made(folder, tmp_path / "corpus", **settings)
    kept = documents(corpus, "train") + documents(corpus, "held_out")
    assert len(kept) == 19
    assert corpus.manifest.decontamination is not None
    assert corpus.manifest.decontamination["documents_dropped"] == 1
    assert corpus.manifest.dropped["contaminated"] == 1
    (folder / "07.txt").unlink()
    without = made(folder, tmp_path / "without", **settings)
    assert sum(s.num_words for s in corpus.manifest.splits.values()) == sum(
        s.num_words for s in without.manifest.splits.values()
    )
    assert sorted(map(len, documents(without, "train"))) == sorted(map(len, documents(corpus, "train")))


def test_an_existing_tokenizer_is_taken_as_it_is(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([sentence(1)], TokenizerConfig(kind="bpe", vocabulary_size=280))
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    corpus = made(
        write_documents(tmp_path, range(5)), tmp_path / "corpus", TokenizerConfig(existing=str(tmp_path / "tokenizer"))
    )
    assert corpus.load_tokenizer().get_vocab() == tokenizer.get_vocab()
    assert corpus.manifest.audit.kind == "bpe"


def test_the_same_request_returns_at_once_and_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = write_documents(tmp_path, range(20)), tmp_path / "corpus"
    manifest = prepare(DataConfig(data=str(path)), SMALL, folder, 0)
    monkeypatch.setattr(preparing.Preparation, "write", None)
    assert prepare(DataConfig(data=str(path)), SMALL, folder, 0) == manifest
    with pytest.raises(CorpusError, match="not empty"):
        prepare(DataConfig(data=str(path)), SMALL, folder, 1)
    key = preparation_key(DataConfig(data=str(path)), SMALL, 0)
    assert key == manifest.key
    path.write_text(path.read_text() + json.dumps({"text": "more"}))
    assert preparation_key(DataConfig(data=str(path)), SMALL, 0) != key


def test_two_at_once_build_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, built, manifests = write_documents(tmp_path, range(20)), [], []
    write = preparing.Preparation.write

    def counted(self: preparing.Preparation, folder: Path) -> CorpusManifest:
        built.append(folder)
        return write(self, folder)

    monkeypatch.setattr(preparing.Preparation, "write", counted)
    threads = [
        threading.Thread(
            target=lambda: manifests.append(prepare(DataConfig(data=str(path)), SMALL, tmp_path / "corpus", 0))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert manifests[0] == manifests[1]


def test_nothing_is_left_behind_when_the_text_turns_out_bad(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    write_documents(folder, range(50))
    (folder / "z.jsonl").write_text("{")
    with pytest.raises(CorpusError, match=r"z\.jsonl:1"):
        made(folder, tmp_path / "out" / "corpus")
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("content", ["", " \n\n\t"])
def test_only_empty_files_are_refused(content: str, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=r"there is no text .*2 empty"):
        made(tmp_path, tmp_path / "out" / "corpus")


def test_a_folder_of_someone_elses_files_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(CorpusError, match="not empty"):
        made(write_documents(tmp_path, range(5)), folder)
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_damage_is_found_when_a_corpus_is_opened(tmp_path: Path) -> None:
    folder = made(write_documents(tmp_path, range(20)), tmp_path / "corpus").folder
    with pytest.raises(CorpusError, match="not a prepared corpus"):
        open_corpus(tmp_path, verify=False)
    tokens = folder / "train-00000.tokens"
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    open_corpus(folder, verify=False)
    with pytest.raises(CorpusError, match=r"train-00000\.tokens was altered"):
        open_corpus(folder, verify=True)
    tokens.write_bytes(whole[:-2])
    with pytest.raises(CorpusError, match=r"train-00000\.tokens has"):
        open_corpus(folder, verify=False)
    tokens.write_bytes(whole)
    manifest = folder / "manifest.json"
    described = manifest.read_text()
    manifest.write_text(described[:-20])
    with pytest.raises(CorpusError, match=r"manifest\.json"):
        open_corpus(folder, verify=False)
    manifest.write_text(described)
    counts = folder / "unigram_counts.npy"
    counts.write_bytes(counts.read_bytes()[:-1] + b"\1")
    with pytest.raises(CorpusError, match=r"unigram_counts\.npy"):
        open_corpus(folder, verify=True)


def test_another_tokenizer_in_the_folder_is_refused(tmp_path: Path) -> None:
    folder = made(write_documents(tmp_path, range(20)), tmp_path / "corpus").folder
    other = train_tokenizer([sentence(3)], SMALL)
    save_tokenizer(other, folder / "tokenizer")
    with pytest.raises(CorpusError, match=r"tokenizer\.json: it was altered"):
        open_corpus(folder, verify=False)
    (folder / "tokenizer" / SUMS).unlink()
    with pytest.raises(CorpusError, match=f"{SUMS} is missing"):
        open_corpus(folder, verify=False)
    assert len(load_tokenizer(folder / "tokenizer")) != 300
    manifest = CorpusManifest.read(folder / "manifest.json")
    manifest.model_copy(update={"tokenizer_sums_sha256": None}).write(folder / "manifest.json")
    with pytest.raises(CorpusError, match="another tokenizer"):
        open_corpus(folder, verify=False)


def test_a_long_document_is_encoded_in_parts_as_the_whole_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "TEXT_CHARACTERS", 500)
    whole = "\n".join(sentence(number) for number in range(300))
    (tmp_path / "a.txt").write_text(whole)
    (tmp_path / "b.txt").write_text("something else")
    for kind in ("wordpiece", "unigram", "bpe", "characters"):
        config = TokenizerConfig(kind=kind, vocabulary_size=300)
        corpus = made(tmp_path, tmp_path / "out" / kind, config)
        backend = corpus.load_tokenizer().backend_tokenizer
        backend.encode_special_tokens = True
        expected = backend.encode(whole, add_special_tokens=False).ids
        assert expected in documents(corpus, "train") + documents(corpus, "held_out")
