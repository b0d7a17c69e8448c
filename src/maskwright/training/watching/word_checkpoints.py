"""How many words a run has seen, and the counts at which its model is exported.

The BabyLM challenge asks for the model after given numbers of words seen, repetitions counted, as branches `chck_1M`
and so on (docs/babylm.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maskwright.core.log import say
from maskwright.core.records.corpus import CorpusManifest
from maskwright.core.records.run import RunFolder

MILLION = 1_000_000

BABYLM_MARKS = tuple(MILLION * count for count in (*range(1, 10), *range(10, 100, 10), *range(100, 1001, 100)))
"""Word counts of the BabyLM challenge of 2025 and 2026; a run exports those it comes to."""

BABYLM = "1M, 2M ... 10M, 20M ... 100M, 200M ... 1000M"
"""`BABYLM_MARKS` for people."""


def marks_of(by_words: Literal["babylm"] | Sequence[int] | None) -> tuple[int, ...]:
    """Return the word counts that a recipe's `checkpoints.by_words` stands for, ascending, each once."""
    if by_words is None:
        return ()
    return BABYLM_MARKS if by_words == "babylm" else tuple(sorted({int(count) for count in by_words}))


def name_of_mark(num_words: int) -> str:
    """Return the challenge's name of the checkpoint after so many words: 7,000,000 -> "chck_7M"."""
    whole, rest = divmod(num_words, MILLION)
    decimals = f".{rest:06d}".rstrip("0") if rest else ""
    return f"chck_{whole}{decimals}M"


@dataclass(frozen=True)
class WordMarks:
    """When to export, by words.

    Words are white-space words, as the challenge counts them, and not the tokenizer's, which may take a comma for one.
    They are counted as text tokens seen times words per token of the training split. That is exact after each whole
    pass over the text, whatever the tokenizer; in between it is off by as much as the texts seen so far differ from
    the rest.

    Attributes:
        marks: word counts, ascending.
        num_words: of the training split.
        num_tokens: of the training split, without special tokens.
        step_tokens: text tokens of a step, at most.
        folder: exports are made in it.
    """

    marks: tuple[int, ...]
    num_words: int
    num_tokens: int
    step_tokens: int
    folder: Path

    def words(self, num_text_tokens: int) -> int:
        """Return the words in so many text tokens."""
        return num_text_tokens * self.num_words // self.num_tokens

    def reached(self, tokens_before: int, tokens_now: int) -> list[Path]:
        """Return the folders to export after a step.

        A mark belongs to the step nearest to it, so that a run whose budget ends a few words short of a mark still has
        it. The answer depends on the two counts alone: a step that is done again after a resume gives the same.

        Args:
            tokens_before: text tokens seen before the step.
            tokens_now: text tokens seen after it.
        """
        before, now = (self.words(tokens) + self.words(self.step_tokens) // 2 for tokens in (tokens_before, tokens_now))
        before = before if tokens_before else 0
        return [self.folder / name_of_mark(mark) for mark in self.marks if before < mark <= now]

    def announce(self, num_words: int) -> None:
        """Say which exports a run that will see so many words comes to."""
        if self.marks:
            at_most = num_words + self.words(self.step_tokens) // 2
            coming = [name_of_mark(mark) for mark in self.marks if mark <= at_most]
            named = f"{coming[0]} ... {coming[-1]} ({len(coming)})" if coming else "none of the checkpoints asked for"
            say(f"about {num_words:,} words will be seen; exported on the way to {self.folder}: {named}")


def word_marks(marks: tuple[int, ...], corpus: CorpusManifest, step_tokens: int, folder: RunFolder) -> WordMarks:
    """Return when to export a run on a corpus."""
    train = corpus.splits["train"]
    return WordMarks(marks, train.num_words, train.num_tokens, step_tokens, folder.word_checkpoints)
