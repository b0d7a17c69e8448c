"""The section `data` of a task's YAML: which files, how they are read, what is text and what is label.

A data set may lie in several layouts (as its authors publish it, as the BabyLM challenge filtered it, on the hub). How
rows are read can be said once for all, for a layout, or for a split: what is said closer to the file wins.
"""

import codecs
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer
from pydantic import model_validator as validator_of_model

from maskwright.core.options import Options

Kind = Literal["classification", "regression", "token_classification", "question_answering"]
"""What a label is: a class, a number, a class a word, or answers that stand in the second text."""

Format = Literal["csv", "tsv", "jsonl", "json", "conll", "conllu"]

FORMAT_BY_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".json": "json",
    ".conll": "conll",
    ".bio": "conll",
    ".conllu": "conllu",
}


class ReadingOptions(Options):
    """How rows are read. All of it may stand under `data`, in a layout or in a split."""

    format: Format | None = Field(
        default=None,
        description="`jsonl` has one object per line, `json` one value per file, `conll` one word per line and an "
        "empty line between sentences; null: by the file's suffix",
    )
    columns: list[str] | None = Field(
        default=None,
        description="names of the columns of a file without a header; a csv or tsv file has one by default, in a conll "
        "file the first column is `text` and the last one `label`",
    )
    quoting: bool | None = Field(
        default=None, description="whether quotes may stand around a field; null: in csv they may, in tsv not"
    )
    encoding: str = Field(default="utf-8", description="of the file, such as cp1252; a byte order mark is dropped")
    skip_bad_rows: bool = Field(
        default=False,
        description="leave out, and count, rows with too few or too many columns, without a field, or with an answer "
        "that does not stand where it should; by default they are errors",
    )
    rows: str | None = Field(
        default=None,
        description="path to a list inside a JSON object, such as passage.questions.answers: each item becomes a row "
        "that keeps what stands above it; lists on the way are opened too",
    )
    where: dict[str, list[str]] = Field(
        default={}, description="rows that are taken: column and value, or list of values, such as {condition: test}"
    )
    text: str | list[str] = Field(
        default="text",
        description="column of the text, or a list of two; with braces a template: 'Question: {question}'. Dots lead "
        "into JSON objects and lists. For answers: question and passage",
    )
    label: str = Field(default="label", description="column of the label, the number, the labels or the answers")
    labels: dict[str, list[str]] | None = Field(
        default=None,
        description="the classes in their order: a list, or a mapping of each name to what stands for it in the file, "
        "such as {no: [false, 0], yes: [true, 1]}; null: what the training data has, sorted",
    )
    choices: list[str] | None = Field(
        default=None,
        description="multiple choice: columns with the choices, of which `label` is the number of the right one, "
        "counted from 0. Each becomes a row with its text as the column `choice`; the model's choice is the likeliest",
    )
    id: str | None = Field(default=None, description="column that names a row; null: its number in the file")
    strata: str | None = Field(
        default=None, description="column with the part of the data that a row belongs to, such as a genre"
    )

    @field_validator("where", mode="before")
    @classmethod
    def _as_in_files(cls, value: Any) -> Any:
        """Compare numbers and truth values of YAML with fields of files as text."""
        return {str(key): _texts(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    @field_validator("labels", mode="before")
    @classmethod
    def _values_by_class(cls, value: Any) -> Any:
        """Read a list as names that stand for themselves."""
        if isinstance(value, list):
            value = {format_value(name): name for name in value}
        if not isinstance(value, dict):
            return value
        return {format_value(name): _texts(inner) for name, inner in value.items()}

    @field_validator("labels")
    @classmethod
    def _one_class_a_value(cls, value: dict[str, list[str]] | None) -> dict[str, list[str]] | None:
        values = [one for values in (value or {}).values() for one in values]
        twice = next((one for one in values if values.count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} stands for two classes")
        return value

    @field_validator("text")
    @classmethod
    def _one_text_or_two(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and len(value) not in (1, 2):
            raise ValueError(f"{len(value)} texts; a row has one text or two")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError as error:
            raise ValueError(f"{value!r} is no encoding, such as utf-8 or cp1252") from error

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keep records readable: defaults are in the documentation."""
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}

    def over(self, base: "ReadingOptions") -> "ReadingOptions":
        """Return how rows are read where `base` is said for all and this for some."""
        said = {name: getattr(self, name) for name in self.model_fields_set & set(ReadingOptions.model_fields)}
        return base.model_copy(update=said)


class SplitFile(ReadingOptions):
    """A split that is read in its own way."""

    file: str = Field(description="its name in the folder; on the hub the name of the split")


class TestCut(Options):
    """A part of the training file that is held back as the test split, the same one every time."""

    test_fraction: float = Field(default=0.2, gt=0, lt=1, description="share of the rows")
    seed: int = Field(default=1, description="another seed holds back other rows")


class DataLayout(ReadingOptions):
    """One way in which the data set lies in a folder or on the hub."""

    folders: list[str] = Field(
        default=["."], description="folders below --data that may hold it; the first with all files is taken"
    )
    hub: str | None = Field(
        default=None,
        description="its name on the hub as owner/name or owner/name/configuration, with @revision if need be, read "
        "where --data is not given; the splits then name splits of the hub",
    )
    note: str = Field(default="", description="what a reader of scores on this layout must know; goes into the record")
    train: SplitFile | None = Field(default=None, description="what is learned from: a file's name, or a mapping")
    validation: SplitFile | None = Field(
        default=None, description="what hyper-parameters and checkpoints are chosen on; null: a part of `train`"
    )
    test: SplitFile | None = Field(default=None, description="what is scored and reported")
    selected_by_babylm: SplitFile | None = Field(
        default=None, description="what the BabyLM pipelines choose checkpoints on, where it is not `test`"
    )
    cut: TestCut | None = Field(default=None, description="holds a part of `train` back, if there is no `test`")

    @field_validator("train", "validation", "test", "selected_by_babylm", mode="before")
    @classmethod
    def _file_alone(cls, value: Any) -> Any:
        """Take a name for a file that is read like the others."""
        return {"file": value} if isinstance(value, str) else value

    def files(self) -> dict[str, SplitFile]:
        """Return the splits that are named."""
        named = {name: getattr(self, name) for name in ("train", "validation", "test", "selected_by_babylm")}
        return {name: split for name, split in named.items() if split is not None}


class DataSection(DataLayout):
    """Which data a task is applied to."""

    source: str = Field(default="", description="where to get it, for the message when it is missing")
    layouts: list[DataLayout] = Field(
        default=[], description="several ways in which it may lie; the first that is there is read"
    )
    folder: Path | None = Field(
        default=None,
        exclude=True,
        description="where files are looked for after --data; by default the folder of a YAML file of your own",
    )

    @validator_of_model(mode="after")
    def _has_splits(self) -> Self:
        """Every layout says what is learned from and what is scored."""
        for layout in self.all_layouts():
            if layout.train is None:
                raise ValueError("train is missing: the file that is learned from")
            if (layout.test is None) == (layout.cut is None):
                raise ValueError("either test (a file) or cut (a part of train) says what is scored")
        return self

    def all_layouts(self) -> list[DataLayout]:
        """Return the layouts in the order in which they are looked for."""
        return self.layouts or [self]


def format_value(value: Any) -> str:
    """Return a value of YAML, JSON or the hub as it would stand in a file: `true`, `3`, `text`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _texts(value: Any) -> Any:
    """Return a value, or a list of values, as a list of texts; anything else as it is, for pydantic to refuse."""
    values = value if isinstance(value, list) else [value]
    return [format_value(one) for one in values] if not any(isinstance(one, dict | list) for one in values) else value
