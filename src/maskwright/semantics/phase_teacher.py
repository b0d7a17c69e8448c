"""What a taught phase makes before its first step, or finds again: its teacher and the dictionary of its targets."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from maskwright.batching.segments import Segments
from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.files import make_folder
from maskwright.core.options import Options
from maskwright.core.records.base import Record
from maskwright.core.records.run import RunFolder
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.encoder import no_such_layer
from maskwright.masking.phase_start import PhaseStart
from maskwright.models.teacher import Teacher, require_same_vocabulary, snapshot
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.make_dictionary import SampleOptions, make_dictionary
from maskwright.semantics.sparse_coding.dictionary_learning import DictionaryConfig
from maskwright.semantics.targets import MOST_ATOMS, TargetCoder
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of

PHASE_BEFORE = "phase_before"


class DictionaryOptions(Options):
    """The dictionary of a phase: how many atoms, learned from how much text; or the folder of one that is there."""

    folder: str | None = Field(
        default=None, description="one that `maskwright dictionary` made, instead of one that the phase makes"
    )
    num_atoms: int = Field(
        default=3000, ge=2, le=MOST_ATOMS, description="atoms of the dictionary (K); 3000 as Berend 2023"
    )
    num_states: int = Field(
        default=200_000, ge=2, description="hidden states to learn from, a uniform sample of those that the text gives"
    )
    num_tokens: int = Field(
        default=1_000_000, ge=2, description="tokens of text read for it, drawn from the whole corpus"
    )
    num_updates: int = Field(default=800, ge=1, description="minibatches of learning, of 512 states each")

    @model_validator(mode="after")
    def _made_or_there(self) -> Self:
        for name in ("num_atoms", "num_states", "num_tokens", "num_updates"):
            if self.folder is not None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no meaning where folder says which dictionary to take")
        return self

    @model_validator(mode="after")
    def _as_many_states_as_atoms(self) -> Self:
        if min(self.num_states, self.num_tokens) < self.num_atoms:
            raise ValueError(
                f"{self.num_atoms} atoms need at least as many states and tokens to learn from, 20 times as many "
                f"are better; got {self.num_states} states of {self.num_tokens} tokens"
            )
        return self

    def count_atoms(self) -> int:
        """Return how many atoms there are, or will be.

        Raises:
            CheckpointError: there is no dictionary in the folder.
        """
        return len(Dictionary.load(Path(self.folder)).atoms_AD) if self.folder else self.num_atoms

    def learning(self, penalty: float) -> DictionaryConfig:
        """Return how it is learned for codes of a penalty."""
        return DictionaryConfig(num_atoms=self.num_atoms, penalty=penalty, num_updates=self.num_updates)


def require_teacher(teacher: str, vocabulary: Vocabulary) -> None:
    """Refuse a teacher that is not there or reads other tokens, before phases are trained that come first.

    Args:
        teacher: a folder with a masked encoder, or a run.
        vocabulary: of the text; one without a checksum stands in for a tokenizer that is not there yet.

    Raises:
        RecipeError: it can't teach.
    """
    run = RunFolder(Path(teacher))
    folder = run.model if run.run_record.exists() else run.path
    if not folder.is_dir():
        raise RecipeError(
            f"teacher: there is no folder {folder}",
            "phase_before, or a folder with a masked encoder or a finished run",
        )
    if vocabulary.sha256:
        require_same_vocabulary(teacher, vocabulary_of(load_tokenizer(folder)), vocabulary)


def require_layer(layer: int, num_layers: int) -> None:
    """Refuse a layer that an encoder does not have.

    Raises:
        RecipeError: it has none of this number.
    """
    if not -num_layers - 1 <= layer <= num_layers:
        raise no_such_layer(layer, num_layers)


def teacher_of_phase(teacher: str, layer: int, vocabulary: Vocabulary, start: PhaseStart) -> Teacher:
    """Return the teacher of a phase; the model of the phase before is kept in the phase's folder.

    Args:
        teacher: `phase_before`, or a folder with a masked encoder or a run.
        layer: whose states are coded; -1 is the last.
        vocabulary: the run's.
        start: see `PhaseStart`.

    Raises:
        RecipeError: no such layer, or the teacher has another tokenizer.
        ExportError: there is no model in the folder.
        CheckpointError: what was kept is damaged or missing.
    """
    if teacher != PHASE_BEFORE:
        found = Teacher(start.read_model(Path(teacher)), layer, teacher, start.device, start.dtype)
        found.require_vocabulary(vocabulary)
        return found
    if start.ranks.is_first and not start.was_begun:
        before = start.model_before()
        make_folder(start.folder)
        Teacher(
            snapshot(before.encoder, before.head, vocabulary), layer, "the phase before", start.device, start.dtype
        ).save(start.folder)
    start.ranks.wait()
    return Teacher.load(start.folder, start.model_before(), start.device, start.dtype)


def dictionary_of_phase(options: DictionaryOptions, penalty: float, teacher: Teacher, start: PhaseStart) -> Dictionary:
    """Return the dictionary of a phase: read from a folder, or made in the phase's own.

    Raises:
        RecipeError: lambda is so large that every code is zero.
        CorpusError: there is not enough text.
        CheckpointError: there is none in the folder, or it is damaged.
    """
    if options.folder is not None:
        return Dictionary.load(Path(options.folder))
    folder = start.folder / "dictionary"
    if start.ranks.is_first:
        make_dictionary(
            folder,
            start.corpus,
            teacher,
            options.learning(penalty),
            SampleOptions(num_states=options.num_states, num_tokens=options.num_tokens),
            start.sequence_length,
            start.micro_batch_tokens,
            start.seed,
        )
    start.ranks.wait()
    return Dictionary.load(folder)


def require_useful_penalty(coder: TargetCoder, start: PhaseStart) -> None:
    """Refuse a lambda so large that the corpus's first text has no codes, before steps are trained without targets.

    Raises:
        RecipeError: it is; names the smallest lambda that is of no use.
    """
    split, length = start.corpus.split("train"), start.sequence_length
    segments = Segments.of(split.document_lengths, length)
    batch = next(segments.batches(split, start.corpus.vocabulary, length, start.micro_batch_tokens))
    coder.require_codes(coder.teacher.states(batch))


class PhaseTeacher(Record):
    """The teacher and the dictionary of a phase, written into its folder, so that neither changes half-way."""

    teacher_sha256: str
    layer: int
    dictionary_sha256: str | None = Field(description="None if targets are tokens")

    @classmethod
    def of(cls, teacher: Teacher, dictionary: Dictionary | None) -> Self:
        """Describe a teacher and, where targets are not tokens, its dictionary."""
        sha256 = None if dictionary is None else dictionary.sha256
        return cls(teacher_sha256=teacher.sha256, layer=teacher.layer, dictionary_sha256=sha256)

    def keep(self, start: PhaseStart) -> None:
        """Write it down; in a phase that was begun, compare.

        Raises:
            CheckpointError: the phase was begun with another teacher or dictionary.
        """
        path = start.folder / "taught_by.json"
        if start.was_begun:
            for (name, before), (_, now) in zip(PhaseTeacher.read(path), self, strict=True):
                if before != now:
                    raise CheckpointError(
                        f"{path}: the phase was begun with {name} {before!s:.16}, now it is {now!s:.16}",
                        "the same teacher and dictionary for a whole phase",
                        "put the model or dictionary back that the recipe names, or start a new run",
                    )
        elif start.ranks.is_first:
            make_folder(start.folder)
            self.write(path)
