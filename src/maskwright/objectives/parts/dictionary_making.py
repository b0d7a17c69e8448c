"""From a corpus and a teacher to a dictionary: hidden states of the whole corpus, sampled, and atoms learned from them.

The teacher reads the train split, or segments drawn uniformly from all of it where it is large; a reservoir keeps a
uniform sample of the states of its text tokens; the dictionary is learned from the sample and then described
(`atoms.py`). What is unfinished is saved now and then, so that a killed process goes on near where it was.

Source: Berend 2023, 2023.findings-acl.876. Departures: the sample is uniform over the corpus, where the reference takes
the first files until it is full.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskwright.batching.segments import Segments
from maskwright.core.errors import CheckpointError, CorpusError, RecipeError
from maskwright.core.files import folder_written_atomically, remove_folder
from maskwright.core.log import progress, say
from maskwright.core.randomness import numpy_generator, torch_generator
from maskwright.core.semantics import ATOMS
from maskwright.corpus.corpus import Corpus
from maskwright.objectives.parts.atoms import DescriptionOptions, describe_atoms
from maskwright.objectives.parts.dictionary import FILE_NAME, Dictionary, DictionaryProvenance
from maskwright.objectives.parts.dictionary_learning import (
    DictionaryConfig,
    DictionaryLearner,
    learn_dictionary,
    mean_objective,
)
from maskwright.objectives.parts.reservoir import Reservoir
from maskwright.objectives.parts.targets import MOST_ATOMS
from maskwright.objectives.parts.teacher import Teacher

UNFINISHED, STATE = "unfinished", "state.safetensors"

SAVE_SECONDS = 60.0
"""Least time between two savings of what is unfinished; more where saving takes long."""

LARGEST_SHARE_OF_SAVING = 0.05

JUDGED_STATES = 10_000
"""States of the sample whose objective goes into the provenance."""


class SampleOptions(BaseModel):
    """Of which text and how many hidden states a dictionary is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_states: int = Field(
        default=200_000, gt=0, description="hidden states to learn from, a uniform sample of those that the text gives"
    )
    num_tokens: int = Field(
        default=1_000_000,
        gt=0,
        description="tokens of text that the teacher reads for it, drawn from the whole corpus where that has more",
    )
    description: DescriptionOptions = Field(
        default=DescriptionOptions(), description="how atoms are described when they are learned"
    )


def make_dictionary(
    folder: Path,
    corpus: Corpus,
    teacher: Teacher,
    config: DictionaryConfig,
    sample: SampleOptions,
    sequence_length: int,
    micro_batch_tokens: int,
    seed: int,
) -> Dictionary:
    """Learn a dictionary from a corpus and describe its atoms; go on where a killed process stopped.

    Args:
        folder: gets `dictionary.safetensors` and `atoms.json`; what is there already of the same dictionary is kept.
        corpus: its train split is sampled; made with the teacher's tokenizer.
        teacher: whose states.
        config: how to learn.
        sample: from how much.
        sequence_length: tokens in a row, with specials.
        micro_batch_tokens: tokens that may pass through the teacher at once.
        seed: of all that is drawn.

    Returns:
        The dictionary, on the CPU; the same for the same arguments, however often the process was killed
        (`tests/unit/objectives/parts/test_dictionary_making.py`).

    Raises:
        CorpusError: not enough text.
        RecipeError: fewer than two atoms, lambda so large that every code is zero, or a tokenizer that is not the
            teacher's.
        CheckpointError: the folder holds another dictionary.
        StorageError: the disk is full.
    """
    teacher.require_vocabulary(corpus.vocabulary)
    making = DictionaryMaking(folder, corpus, teacher, config, sample, sequence_length, micro_batch_tokens, seed)
    dictionary = making.finished() or making.make()
    if not (folder / ATOMS).is_file():
        describe_atoms(
            folder, corpus, teacher, dictionary, sample.description, sequence_length, micro_batch_tokens, seed
        )
    return dictionary


@dataclass
class DictionaryMaking:
    """One dictionary in the making; the attributes are the arguments of `make_dictionary`."""

    folder: Path
    corpus: Corpus
    teacher: Teacher
    config: DictionaryConfig
    sample: SampleOptions
    sequence_length: int
    micro_batch_tokens: int
    seed: int

    @property
    def settings(self) -> dict[str, float]:
        """What was set, as the provenance has it."""
        set_values = self.config.model_dump(exclude={"penalty"}, exclude_none=True)
        set_values |= self.sample.model_dump(include={"num_states", "num_tokens"})
        return {name: float(value) for name, value in set_values.items()} | {
            "sequence_length": float(self.sequence_length)
        }

    @property
    def identity(self) -> dict[str, object]:
        """What decides which dictionary this is, by the names of the provenance."""
        return {
            "teacher_sha256": self.teacher.sha256,
            "layer": self.teacher.layer,
            "corpus_sha256": self.corpus.manifest.content_sha256,
            "penalty": self.config.penalty,
            "seed": self.seed,
            "settings": self.settings,
        }

    def finished(self) -> Dictionary | None:
        """Return the dictionary that the folder holds, None where there is none yet.

        Raises:
            CheckpointError: it is damaged or another one; what differs is named.
        """
        if not (self.folder / FILE_NAME).exists():
            return None
        found = Dictionary.load(self.folder)
        there = found.provenance.model_dump()
        for name, wanted in self.identity.items():
            if there[name] != wanted:
                raise CheckpointError(
                    f"{self.folder} holds another dictionary: its {_difference(name, there[name], wanted)}",
                    "a new folder, or the dictionary of exactly these settings",
                    "choose another folder, or delete this one",
                )
        return found

    def make(self) -> Dictionary:
        """Sample, learn, save."""
        segments = self._segments()
        reservoir = self._sample_states(segments)
        sample_ND = reservoir.in_order_of_keys()
        learner = self._learn(sample_ND)
        chosen = torch.randperm(len(sample_ND), generator=torch_generator(self.seed, "dictionary_judged"))
        judged_ND = sample_ND[chosen[:JUDGED_STATES]]
        provenance = DictionaryProvenance(
            penalty=self.config.penalty,
            teacher=self.teacher.name,
            teacher_sha256=self.teacher.sha256,
            layer=self.teacher.layer,
            corpus_sha256=self.corpus.manifest.content_sha256,
            num_states_seen=reservoir.num_seen,
            num_states=len(reservoir),
            seed=self.seed,
            settings=self.settings,
            num_updates=learner.num_updates,
            objective=mean_objective(learner.atoms_AD, self.config.penalty, judged_ND),
        )
        dictionary = Dictionary(learner.atoms_AD.cpu(), provenance)
        dictionary.save(self.folder)
        remove_folder(self.folder / UNFINISHED)
        return dictionary

    def _segments(self) -> Segments:
        """Return the text that the teacher reads; refuse too little before it reads any.

        Raises:
            RecipeError: the numbers of atoms and states don't fit.
            CorpusError: the corpus is too small.
        """
        num_atoms, num_states = self.config.num_atoms, self.sample.num_states
        if num_atoms < 2:
            raise RecipeError(f"a dictionary of {num_atoms} atoms", "2 atoms or more", "set atoms to 1000, for example")
        if num_atoms > MOST_ATOMS:
            raise RecipeError(f"a dictionary of {num_atoms:,} atoms", f"at most {MOST_ATOMS:,}")
        smallest = min(num_states, self.sample.num_tokens)
        if smallest < num_atoms:
            raise RecipeError(
                f"{num_atoms:,} atoms from a sample of {smallest:,} hidden states",
                "a sample of at least as many states as atoms; 20 times as many are better",
                "take more states and tokens for the sample, or fewer atoms",
            )
        segments = Segments.of(self.corpus.split("train").document_lengths, self.sequence_length)
        if segments.num_tokens < num_atoms:
            raise CorpusError(
                f"the corpus has {segments.num_tokens:,} tokens to learn {num_atoms:,} atoms from",
                "at least as many tokens as atoms; 20 times as many are better",
                "give more text, or ask for fewer atoms",
            )
        return segments.sample(self.sample.num_tokens, numpy_generator(self.seed, "dictionary_text"))

    def _sample_states(self, segments: Segments) -> Reservoir:
        """Let the teacher read and keep a sample of the states of text tokens."""
        capacity = min(self.sample.num_states, segments.num_tokens)
        reservoir = Reservoir(capacity, self.teacher.width, self.seed)
        saving = Saving(self.folder / UNFINISHED / "sample", self.identity, reservoir.state)
        saved = saving.read()
        if saved is not None:
            reservoir.load_state(saved)
        num_offered = reservoir.num_seen
        is_special_V = torch.zeros(self.corpus.vocabulary.size, dtype=torch.bool)
        is_special_V[list(self.corpus.vocabulary.special_ids)] = True
        split, num_passed = self.corpus.split("train"), 0
        with progress("reading hidden states (tokens)", segments.num_tokens) as advance:
            for batch in segments.batches(split, self.corpus.vocabulary, self.sequence_length, self.micro_batch_tokens):
                places = (~is_special_V[batch.token_ids_T]).nonzero().squeeze(1)
                if num_passed + len(places) > num_offered:
                    reservoir.add(self.teacher.states(batch, places[max(0, num_offered - num_passed) :]))
                    saving.now_and_then()
                num_passed += len(places)
                advance(len(places))
        if reservoir.num_seen > num_offered:
            saving.write()
        return reservoir

    def _learn(self, sample_ND: Tensor) -> DictionaryLearner:
        learner = DictionaryLearner(self.config, sample_ND, self.seed, str(self.teacher.device))
        saving = Saving(self.folder / UNFINISHED / "learner", self.identity, learner.state)
        saved = saving.read()
        if saved is not None:
            learner.load_state(saved)
        with progress("learning atoms (updates)", self.config.num_updates) as advance:
            advance(learner.num_updates)

            def on_update(objective: float) -> None:
                advance(1)
                saving.now_and_then()

            learn_dictionary(learner, sample_ND, on_update)
        return learner


class Saving:
    """What is unfinished, on disk: saved now and then, at most a twentieth of the time, whole or not at all."""

    def __init__(self, folder: Path, identity: Mapping[str, object], state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Nothing is written yet.

        Args:
            folder: where.
            identity: what the state belongs to; a state of something else is not read.
            state: returns what is to be saved.
        """
        self._folder, self._state = folder, state
        self._metadata = {"identity": json.dumps(identity, sort_keys=True)}
        self._due = time.monotonic() + SAVE_SECONDS

    def read(self) -> dict[str, Tensor] | None:
        """Return what was saved, None where nothing was, or something else.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self._folder / STATE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                if file.metadata() != self._metadata:
                    say(f"{self._folder}: begun with other settings; beginning again")
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} can't be read: {error}", "the file as it was saved", f"delete {self._folder.parent}"
            ) from error

    def now_and_then(self) -> None:
        """Save if it is time to."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Save.

        Raises:
            StorageError: the disk is full.
        """
        begin = time.monotonic()
        with folder_written_atomically(self._folder) as new:
            save_file(
                {name: tensor.contiguous() for name, tensor in self._state().items()}, new / STATE, self._metadata
            )
        took = time.monotonic() - begin
        self._due = time.monotonic() + max(SAVE_SECONDS, took / LARGEST_SHARE_OF_SAVING)


def _difference(name: str, there: object, wanted: object) -> str:
    """Say in words how two dictionaries differ."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        name = next(key for key in sorted({*there, *wanted}) if there.get(key) != wanted.get(key))
        there, wanted = there.get(name), wanted.get(name)
    shorter = (str(value)[:16] for value in (there, wanted))
    return f"{name.replace('_', ' ')} is " + ", not ".join(shorter)
