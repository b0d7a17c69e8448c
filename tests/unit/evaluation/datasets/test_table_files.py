"""File formats: rows with their lines, and nothing that looks like a line end but is text."""

import json
from pathlib import Path

import pytest

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.datasets.section import ReadingOptions
from maskwright.evaluation.datasets.table_files import rows_of_file


@pytest.fixture
def read(tmp_path: Path):
    """Return a function that writes a file and reads its rows."""

    def rows(name: str, content: str | bytes, **reading):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(rows_of_file(path, ReadingOptions(**reading)))

    return rows


def test_csv_has_quotes_and_a_header(read):
    rows = read("a.csv", 'text,label\n"a ""b"", c\nd",1\nplain,0\n')
    assert [row.values for row in rows] == [{"text": 'a "b", c\nd', "label": "1"}, {"text": "plain", "label": "0"}]
    assert [row.location for row in rows] == ["line 2", "line 4"]


def test_tsv_has_no_quotes(read):
    rows = read("a.tsv", 'text\tlabel\n"open\t1\n')
    assert rows[0].values == {"text": '"open', "label": "1"}
    quoted = read("a.tsv", 'text\tlabel\n"a\tb"\t1\n', quoting=True)
    assert quoted[0].values["text"] == "a\tb"


def test_only_a_newline_ends_a_line(read):
    odd = "a\x85b\u2028c\x0bd\x1ce"
    for name, content in (
        ("a.tsv", f"text\n{odd}\n"),
        ("a.csv", f"text\n{odd}\n"),
        ("a.jsonl", json.dumps({"text": odd})),
    ):
        assert [row.values for row in read(name, content)] == [{"text": odd}]
    in_json = json.dumps({"text": odd}, ensure_ascii=False)
    assert [row.values for row in read("a.jsonl", in_json)] == [{"text": odd}]
    assert read("a.tsv", "text\r\na\r\n")[0].values == {"text": "a"}


def test_a_byte_order_mark_is_no_part_of_the_first_column(read):
    assert read("a.tsv", b"\xef\xbb\xbfQuality\n1\n")[0].values == {"Quality": "1"}
    assert read("a.tsv", "Quality\n1\n".encode("utf-16"), encoding="utf-16")[0].values == {"Quality": "1"}


def test_another_encoding_is_read_where_it_is_named_and_the_line_is_told_where_it_is_not(read):
    content = "text\nfine\ncaf\xe9 \x85\n".encode("latin-1")
    assert read("a.csv", content, encoding="cp1252")[1].values == {"text": "café …"}
    with pytest.raises(EvaluationError, match=r"a\.csv, line 3, byte 13: not utf-8\n.*\n.*encoding: cp1252"):
        read("a.csv", content)


def test_columns_without_a_header_are_named(read):
    rows = read("a.tsv", "gj04\t1\t*\tA text.\n", columns=["source", "label", "star", "text"])
    assert rows[0].values == {"source": "gj04", "label": "1", "star": "*", "text": "A text."}


def test_two_columns_of_one_name_are_no_header(read):
    with pytest.raises(EvaluationError, match=r"two columns are named 'good'\n.*\n.*under columns"):
        read("a.csv", "good,good,1\nbad,day,0\n")


@pytest.mark.parametrize("line", ["only one", "a\tb\tc"])
def test_a_row_with_another_number_of_columns_is_a_problem(read, line):
    good, bad = read("a.tsv", f"text\tlabel\na\tb\n{line}\n")
    assert not good.problem
    assert bad.location == "line 3"
    assert "columns, not 2 (text, label)" in bad.problem


def test_wrong_quotes_are_an_error_with_their_line(read):
    with pytest.raises(EvaluationError, match=r"line 3: .*\n.*\n.*quoting: false"):
        read("a.csv", 'text,label\nfine,1\n"a" b,1\n')


def test_json_lines_and_json_files(read):
    assert [row.values for row in read("a.jsonl", '{"a": 1}\n\n{"a": 2}\n')] == [{"a": 1}, {"a": 2}]
    assert [row.values for row in read("a.json", '[{"a": 1}, {"a": 2}]')] == [{"a": 1}, {"a": 2}]
    assert [row.values for row in read("a.json", '{"a": 1}\n{"a": 2}\n')] == [{"a": 1}, {"a": 2}]
    assert [row.values for row in read("a.json", '{\n "a": {"b": 1}\n}')] == [{"a": {"b": 1}}]
    broken, number = read("a.jsonl", '{"a": \n3\n')
    assert (broken.location, number.location) == ("line 1", "line 2")
    assert broken.problem.startswith("no JSON") and "a JSON int" in number.problem
    assert "no JSON" in read("a.jsonl", "[" * 100_000)[0].problem
    with pytest.raises(EvaluationError, match="too many brackets"):
        read("a.json", "[" * 100_000)
    with pytest.raises(EvaluationError, match="line 2: no JSON"):
        read("a.json", '{"a": 1,\n "b": }')


def test_conll_has_a_word_a_line(read):
    content = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n# NN B-NP O\n\nPeter NNP B-NP B-PER\n"
    rows = read("a.conll", content)
    assert [row.values for row in rows] == [
        {"text": ["EU", "#"], "label": ["B-ORG", "O"]},
        {"text": ["Peter"], "label": ["B-PER"]},
    ]
    assert [row.location for row in rows] == ["line 3", "line 6"]
    named = read("a.conll", content, columns=["word", "pos", "chunk", "ner"])
    assert named[0].values["pos"] == ["NNP", "NN"]
    (bad,) = read("a.conll", "EU B-ORG\nPeter\n")
    assert "1 columns in line 2, not 2" in bad.problem


def test_conllu_leaves_ranges_and_empty_nodes_out(read):
    def word(number: str, form: str, upos: str) -> str:
        return "\t".join([number, form, "_", upos, *"______"])

    lines = ["# sent_id = s1", "# text = vámonos", word("1-2", "vámonos", "_"), word("1", "vamos", "VERB")]
    lines += [word("2", "nos", "PRON"), word("2.1", "x", "_"), ""]
    (row,) = read("a.conllu", "\n".join(lines))
    assert row.values["form"] == ["vamos", "nos"]
    assert row.values["upos"] == ["VERB", "PRON"]
    assert row.values["sent_id"] == "s1"


def test_a_suffix_that_says_nothing_needs_a_format(read):
    with pytest.raises(EvaluationError, match=r"'\.txt' says nothing"):
        read("a.txt", "x")
    assert read("a.txt", "text\tlabel\na\tb\n", format="tsv")[0].values == {"text": "a", "label": "b"}
