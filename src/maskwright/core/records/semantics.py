"""The description of a dictionary of latent semantic atoms: `atoms.json` next to the dictionary."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from maskwright.core.records.base import Record

ATOMS = "atoms.json"

LONGEST_SHOWN = 24
"""Characters of a word in a label."""


class Context(Record):
    """A word where it stands; white space between the parts belongs to them."""

    left: str
    word: str
    right: str


class AtomContext(Context):
    """One of an atom's strongest contexts."""

    weight: float = Field(description="the atom's, in the code of the strongest token of the word")


class Atom(Record):
    """What one atom means, as far as the coded text tells."""

    label: list[str] = Field(description="its most distinctive words, most distinctive first; none where it is dead")
    frequency: float = Field(description="share of tokens whose code has it")
    mean_weight: float = Field(description="mean of its weight where it is used; 0 if it is not")
    contexts: list[AtomContext] = Field(description="where it is strongest, strongest first")

    @property
    def name(self) -> str:
        """The label for people; what is longer than a word is cut."""
        shown = (word if len(word) <= LONGEST_SHOWN else word[: LONGEST_SHOWN - 1] + "…" for word in self.label)
        return " · ".join(shown) or "no word"


class AtomWeight(Record):
    """One atom of a profile."""

    atom: int
    weight: float = Field(description="share of the profile; a profile sums to 1 over all its atoms")


class Profile(Record):
    """A word in context and the atoms of its code."""

    context: Context
    atoms: list[AtomWeight] = Field(description="the strongest, strongest first")
    num_atoms: int = Field(description="all that are not zero")


class Sense(Record):
    """A group of occurrences with like codes."""

    num_occurrences: int
    profile: Profile = Field(description="of the occurrence that is most like the others of its group")


class Senses(Record):
    """A word with two groups of occurrences."""

    word: str
    silhouette: float = Field(description="how well the groups are apart, -1 to 1")
    senses: list[Sense]


class AtomsRecord(Record):
    """A dictionary described."""

    format_version: Literal[1] = 1
    dictionary_sha256: str
    teacher: str = Field(description="the model whose hidden states were coded, as the user named it")
    layer: int = Field(description="which hidden states")
    penalty: float = Field(description="lambda")
    num_tokens: int = Field(description="coded tokens of the train split")
    coding: dict[str, float] = Field(description="`CodingReport.summary` of those: gaps, KKT, non-zeros, eigenvalue")
    nonzeros: list[int] = Field(description="how many tokens have 0, 1, 2 ... atoms")
    atoms: list[Atom] = Field(description="by number")
    words: list[Senses] = Field(description="words of held-out text whose codes fall apart into two groups")

    @property
    def num_dead_atoms(self) -> int:
        """Atoms that no coded token uses."""
        return sum(atom.frequency == 0 for atom in self.atoms)


def sample_atoms(record: AtomsRecord, count: int) -> list[int]:
    """Return atoms in use, from all ranks of frequency: the most and the least frequent tell little."""
    used = [number for number, atom in enumerate(record.atoms) if atom.label]
    used.sort(key=lambda number: (-record.atoms[number].frequency, number))
    step = len(used) / (count + 1)
    indices = dict.fromkeys(int(step * (number + 1)) for number in range(count))
    return [used[index] for index in indices if index < len(used)]


@dataclass(frozen=True)
class ProfiledWords:
    """Words with their profiles.

    Attributes:
        atoms: what the atoms mean.
        words: by the teacher.
        predicted: by the student, the word masked, in step with `words`; None without a student.
    """

    atoms: AtomsRecord
    words: list[Profile]
    predicted: list[Profile] | None
