"""Sources read what they should, and say clearly what they can't read."""

import gzip
import json
import lzma
import os
import sys
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import zstandard

from maskwright.core.errors import CorpusError, MissingDependency
from maskwright.corpus.config import DataConfig
from maskwright.corpus.find_sources import find_sources
from maskwright.corpus.sources import docstrings, text
from maskwright.corpus.sources.docstrings import docstrings_of, source_files


def read(path: Path | str, **settings) -> list[str]:
    config = DataConfig(data=str(path), **settings)
    documents, whole = [], ""
    for source in find_sources(config.names, config):
        for piece in source.pieces():
            whole += piece.text
            if piece.is_last:
                documents.append(whole)
                whole = ""
    return documents


def packed(suffix: str, content: bytes) -> bytes:
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}
    return pack[suffix](content) if suffix else content


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_text_and_json_lines_are_read_plain_and_compressed(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a.txt{suffix}").write_bytes(packed(suffix, "őz\nfut\n".encode()))
    (tmp_path / f"b.jsonl{suffix}").write_bytes(packed(suffix, '{"text": "egy"}\n\n{"text": "két"}'.encode()))
    assert read(tmp_path) == ["őz\nfut\n", "egy", "két"]


def test_zst_files_of_several_frames_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt.zst").write_bytes(packed(".zst", b"one ") + packed(".zst", b"two"))
    assert read(tmp_path) == ["one two"]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
def test_a_truncated_compressed_file_is_refused_by_name(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / ("a" + kind + suffix)
    content = "".join(json.dumps({"text": f"line {number}"}) + "\n" for number in range(5000)).encode()
    path.write_bytes(packed(suffix, content)[:-20])
    with pytest.raises(CorpusError, match=path.name):
        read(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_file_that_is_not_what_its_name_says_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.txt" + suffix)
    path.write_bytes(b"this is no compressed file at all")
    with pytest.raises(CorpusError, match=path.name):
        read(path)


def test_documents_are_files_paragraphs_or_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\u0085two\u2028three\r\nfour\r\n\r\n \t\nfive\n\nsix".encode())
    assert read(path) == ["one\u0085two\u2028three\nfour\n\n \t\nfive\n\nsix"]
    assert read(path, documents="file") == read(path)
    assert read(path, documents="paragraph") == ["one\u0085two\u2028three\nfour", "five", "six"]
    assert [line for line in read(path, documents="line") if line.strip()] == [
        "one\u0085two\u2028three", "four", "five", "six",
    ]  # fmt: skip


@pytest.mark.parametrize("documents", ["auto", "file", "paragraph", "line"])
@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 64])
def test_borders_of_blocks_do_not_matter(
    documents: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(("🙂 őz\r\nfut\r\n\r\n\r\n" * 40 + "vége 🙂").encode())
    monkeypatch.setattr(text, "LARGE_FILE_CHARACTERS", 100)
    monkeypatch.setattr(text, "STRETCH_CHARACTERS", 50)
    expected = read(path, documents=documents)
    monkeypatch.setattr(text, "BLOCK_BYTES", block_bytes)
    assert "".join(read(path, documents=documents)) == "".join(expected)
    if documents in ("line", "paragraph"):
        assert read(path, documents=documents) == expected


def test_a_large_file_is_cut_at_blank_lines_into_stretches(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"Paragraph {number} {'word ' * 200}\n\n" for number in range(1500)))
    documents = read(path)
    assert "".join(documents) == path.read_text()
    assert all(document.endswith("\n\n") for document in documents)
    sizes = [len(document) for document in documents[:-1]]
    assert 60_000 < min(sizes) <= max(sizes) < 140_000


@pytest.mark.parametrize("documents", ["file", "line", "paragraph", "auto"])
def test_one_long_line_is_read_in_pieces(documents: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PIECE_CHARACTERS", 1000)
    monkeypatch.setattr(text, "BLOCK_BYTES", 512)
    path = tmp_path / "a.txt"
    path.write_text("word " * 300_000)
    config = DataConfig(data=str(path), documents=documents)  # pyright: ignore[reportArgumentType]
    (source,) = find_sources(config.names, config)
    pieces = list(source.pieces())
    assert "".join(piece.text for piece in pieces) == path.read_text()
    assert max(len(piece.text) for piece in pieces) < 300_000


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", b"text\0more", "binary file: byte 4 is zero"),
        ("a.txt", bytes(range(128, 256)) * 9, "are not UTF-8"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"', "a.jsonl:2: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 7}', "a.jsonl:2: field 'text' holds int"),
        ("a.jsonl", b'{"txt": "a"}', "a.jsonl:1: no field 'text', did you mean 'txt'"),
        ("a.jsonl", b"[1]", "a.jsonl:1: a JSON list"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: not JSON"),
        ("a.parquet", b"PAR1 and nothing more", "a.parquet"),
        ("a.parquet", b"", "a.parquet"),
        ("a.docx", b"x", "its kind of file is not known"),
    ],
)
def test_what_can_not_be_read_is_refused_in_one_message(
    name: str, content: bytes, problem: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / name)
    assert problem in str(caught.value)
    assert str(caught.value).count("\n") < 6


def test_invalid_utf8_is_counted_or_refused_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("ő".encode() * 100 + b"abc\xff def \xef\xbf\xbd")
    config = DataConfig(data=str(path))
    (source,) = find_sources(config.names, config)
    assert [piece.text for piece in source.pieces()] == ["ő" * 100 + "abc\ufffd def \ufffd"]
    assert source.dropped == {"invalid UTF-8": 1}
    with pytest.raises(CorpusError, match=r"a.txt: byte 203 \(0xff\)"):
        read(path, strict=True)
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "ok"}\n{"text": "\xff"}')
    assert read(tmp_path / "b.jsonl") == ["ok", "\ufffd"]
    with pytest.raises(CorpusError, match=r"b.jsonl:2: byte 10"):
        read(tmp_path / "b.jsonl", strict=True)


def test_lone_surrogates_in_json_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b"}')
    assert read(tmp_path) == ["a?b"]


def test_parquet_columns_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": ["one", None, "three"], "label": [1, 2, 3]}), path)
    assert read(path) == ["one", "", "three"]
    with pytest.raises(CorpusError, match=r"no column 'texts', did you mean 'text'"):
        read(path, text_field="texts")
    with pytest.raises(CorpusError, match="column 'label' holds int64"):
        read(path, text_field="label")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CorpusError, match=r"a\.parquet"):
        read(path)


def test_missing_paths_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("x")
    with pytest.raises(CorpusError, match=r"novels\.txt does not exist, did you mean 'novel\.txt'"):
        read(tmp_path / "novels.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="holds no file to read"):
        read(tmp_path / "empty")
    with pytest.raises(CorpusError, match=r"\*\.md does not exist"):
        read(tmp_path / "*.md")


def test_globs_folders_and_lists_are_sorted_and_each_file_comes_once(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "inner/c.txt", ".hidden.txt", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "inner" / "loop").symlink_to(tmp_path)
    assert read(tmp_path) == ["a.txt", "b.txt", "inner/c.txt"]
    config = DataConfig(data=(str(tmp_path / "b.txt"), str(tmp_path / "*")))
    assert [Path(source.name).name for source in find_sources(config.names, config)] == ["b.txt", "a.txt", "c.txt"]


def test_a_pipe_is_refused_and_left_out_of_folders(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(CorpusError, match="not a regular file"):
        read(tmp_path / "pipe.txt")
    assert read(tmp_path) == ["a"]


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    config = DataConfig(data=str(tmp_path))
    (source,) = find_sources(config.names, config)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(CorpusError, match=r"a\.txt could not be read"):
        list(source.pieces())


@pytest.mark.parametrize(
    ("name", "module"), [("hf:a/b/train", "datasets"), ("x.parquet", "pyarrow"), ("x.txt.zst", "zstandard")]
)
def test_a_missing_library_is_named_with_how_to_install_it(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if not name.startswith("hf:"):
        (tmp_path / name).write_bytes(b"")
        name = str(tmp_path / name)
    with pytest.raises(MissingDependency, match=rf"{module} is not installed[\s\S]*pip install"):
        read(name)


@pytest.mark.parametrize("name", ["hf:wikitext", "hf:a/b", "hf:a//b", "builtin:docstring", "builtin:docstrings2"])
def test_wrong_names_are_refused(name: str) -> None:
    with pytest.raises(CorpusError):
        read(name)


def test_docstrings_are_read_without_running_anything(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        'raise SystemExit\n"""not one"""\nclass A:\n    """A class that says eight words or even more."""\n'
        '    def f(self):\n        """First line of the words that stand here.\n\n'
        '        Second:\n            more.\n        """\n'
        '        def inner(): "An inner function is not read by the docstring reader."\n'
        'def g(): """Too short."""\n'
    )
    (tmp_path / "broken.py").write_text('"""A file that is no Python program of this version at all"""\nprint "x"')
    (tmp_path / "_private").mkdir()
    (tmp_path / "_private" / "x.py").write_text("")
    assert [path.name for path in source_files(tmp_path)] == ["broken.py", "module.py"]
    assert list(docstrings_of(tmp_path / "broken.py")) == []
    assert list(docstrings_of(tmp_path / "module.py")) == [
        "A class that says eight words or even more.",
        "First line of the words that stand here.\n\nSecond:\n    more.",
    ]


def test_the_docstring_corpus_holds_each_text_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text('"""The very same docstring of two modules, word by word."""')
    monkeypatch.setattr(docstrings, "folders", lambda: iter([("mine", tmp_path)]))
    docstrings.all_docstrings.cache_clear()
    assert read("builtin:docstrings") == ["The very same docstring of two modules, word by word."]
    docstrings.all_docstrings.cache_clear()
