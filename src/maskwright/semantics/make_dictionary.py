"""From a corpus and a teacher to a dictionary: hidden states of the whole corpus, sampled, and atoms learned from them.

The teacher reads the train split, or segments drawn uniformly from all of it where it is large; a reservoir keeps a
uniform sample of the states of its text tokens; the dictionary is learned from the sample and then described
(`atoms.py`). What is unfinished is saved now and then, so that a killed process goes on near where it was.

Source: Berend 2023, 2023.findings-acl.876. Departures: the sample is uniform over the corpus, where the reference takes
the first files until it is full.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from maskwright.batching.segments import Segments
from maskwright.core.errors import CheckpointError, CorpusError, MemoryShortage, RecipeError
from maskwright.core.files import remove_folder
from maskwright.core.hardware import available_memory_bytes
from maskwright.core.log import progress
from maskwright.core.options import Options
from maskwright.core.randomness import numpy_generator, torch_generator
from maskwright.core.records.semantics import ATOMS
from maskwright.core.resumable_work import ResumableState
from maskwright.corpus.corpus import Corpus
from maskwright.models.teacher import Teacher
from maskwright.semantics.describe.atoms import DescriptionOptions, describe_atoms
from maskwright.semantics.dictionary import FILE_NAME, Dictionary, DictionaryProvenance
from maskwright.semantics.reservoir import Reservoir
from maskwright.semantics.sparse_coding.dictionary_learning import (
    DictionaryConfig,
    DictionaryLearner,
    learn_dictionary,
    mean_objective,
)
from maskwright.semantics.targets import MOST_ATOMS

UNFINISHED = "unfinished"

JUDGED_STATES = 10_000
"""States of the sample whose objective goes into the provenance."""


class SampleOptions(Options):
    """Of which text and how many hidden states a dictionary is made."""

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


def check_resources(num_atoms: int, num_states: int, width: int, num_tokens: int, available_bytes: int) -> None:
    """Refuse more atoms than the text or the memory have room for.

    The atoms' products with each other and the second moments of their codes are square in their number.

    Args:
        num_atoms: A.
        num_states: of the sample.
        width: of a state, D.
        num_tokens: of the text, all that may be read.
        available_bytes: of memory.

    Raises:
        CorpusError: the corpus has fewer tokens than atoms.
        MemoryShortage: they don't fit.
    """
    if num_tokens < num_atoms:
        raise CorpusError(
            f"the corpus has {num_tokens:,} tokens to learn {num_atoms:,} atoms from",
            "at least as many tokens as atoms; 20 times as many are better",
            "give more text, or ask for fewer atoms",
        )
    sample_bytes = 4 * width * min(num_states, num_tokens)
    needed = 4 * (2 * num_atoms**2 + 3 * num_atoms * width) + sample_bytes
    if needed > available_bytes:
        raise MemoryShortage(
            f"a dictionary of {num_atoms:,} atoms takes {needed / 1e9:.1f} GB while it is learned "
            f"({sample_bytes / 1e9:.1f} GB of them for the sample), {available_bytes / 1e9:.1f} GB are available",
            "atoms and a sample that fit into memory",
            "ask for fewer atoms (half as many take a quarter), or for a smaller sample",
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
        (`tests/unit/semantics/test_make_dictionary.py`).

    Raises:
        CorpusError: not enough text.
        RecipeError: fewer than two atoms, lambda so large that every code is zero, or a tokenizer that is not the
            teacher's.
        CheckpointError: the folder holds another dictionary.
        MemoryShortage: so many atoms don't fit.
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
        """Return the dictionary that the folder holds, None if there is none yet.

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
        """Return the text that the teacher reads; refuse what can't be done before it reads any.

        Raises:
            RecipeError: the numbers of atoms and states don't fit.
            CorpusError: the corpus is too small.
            MemoryShortage: the atoms don't fit.
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
        available_bytes = available_memory_bytes(self.teacher.device)
        check_resources(num_atoms, num_states, self.teacher.width, segments.num_tokens, available_bytes)
        return segments.sample(self.sample.num_tokens, numpy_generator(self.seed, "dictionary_text"))

    def _sample_states(self, segments: Segments) -> Reservoir:
        """Let the teacher read and keep a sample of the states of text tokens."""
        capacity = min(self.sample.num_states, segments.num_tokens)
        reservoir = Reservoir(capacity, self.teacher.width, self.seed)
        saving = ResumableState(self.folder / UNFINISHED / "sample", self.identity, reservoir.state)
        saved = saving.read()
        if saved is not None:
            reservoir.load_state(saved)
        num_offered = reservoir.num_seen
        is_special_V = torch.zeros(self.corpus.vocabulary.size, dtype=torch.bool)
        is_special_V[list(self.corpus.vocabulary.special_ids)] = True
        split, num_passed = self.corpus.split("train"), 0
        with progress("reading hidden states (tokens)", segments.num_tokens) as advance:
            for batch in segments.batches(split, self.corpus.vocabulary, self.sequence_length, self.micro_batch_tokens):
                positions = (~is_special_V[batch.token_ids_T]).nonzero().squeeze(1)
                if num_passed + len(positions) > num_offered:
                    reservoir.add(self.teacher.states(batch, positions[max(0, num_offered - num_passed) :]))
                    saving.save_if_due()
                num_passed += len(positions)
                advance(len(positions))
        if reservoir.num_seen > num_offered:
            saving.write()
        return reservoir

    def _learn(self, sample_ND: Tensor) -> DictionaryLearner:
        learner = DictionaryLearner(self.config, sample_ND, self.seed, str(self.teacher.device))
        saving = ResumableState(self.folder / UNFINISHED / "learner", self.identity, learner.state)
        saved = saving.read()
        if saved is not None:
            learner.load_state(saved)
        with progress("learning atoms (updates)", self.config.num_updates) as advance:
            advance(learner.num_updates)

            def on_update(objective: float) -> None:
                advance(1)
                saving.save_if_due()

            learn_dictionary(learner, sample_ND, on_update)
        return learner


def _difference(name: str, there: object, wanted: object) -> str:
    """Say in words how two dictionaries differ."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        name = next(key for key in sorted({*there, *wanted}) if there.get(key) != wanted.get(key))
        there, wanted = there.get(name), wanted.get(name)
    shorter = (str(value)[:16] for value in (there, wanted))
    return f"{name.replace('_', ' ')} is " + ", not ".join(shorter)
