"""What targets of a teacher cost, foreseen from shapes alone: operations, size of a cache, and when it pays off.

D is the width of the teacher's states, A the number of atoms.
"""

from dataclasses import dataclass

from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.flops import flops_per_token
from maskwright.semantics.targets import CodingOptions

EXACT_STEPS = 36
"""FISTA steps that take as long as one exact code, with 1000 atoms 256 wide
(benchmarks/records/2026-11-21_dictionary.json)."""

EXPECTED_NONZEROS = 35
"""Atoms of a token, before there is a dictionary to measure on (the same record)."""

ENTRY_BYTES, TOKEN_BYTES = 3, 4


@dataclass(frozen=True)
class TeachingCosts:
    """Costs of one teacher, dictionary and solver.

    Attributes:
        reading_flops: the teacher's forward pass, per token.
        coding_flops: one code, per token that is coded.
        token_bytes: of a cache, per token of the corpus.
    """

    reading_flops: float
    coding_flops: float
    token_bytes: float

    @classmethod
    def of(
        cls, config: EncoderConfig, layer: int, sequence_length: int, num_atoms: int, coding: CodingOptions
    ) -> "TeachingCosts":
        """Foresee them.

        Args:
            config: of the teacher.
            layer: whose states are coded; what comes after it is not computed.
            sequence_length: of the text it reads.
            num_atoms: A.
            coding: gives the solver.
        """
        read = config.model_copy(update={"num_layers": layer % (config.num_layers + 1)})
        entries = min(EXPECTED_NONZEROS, coding.keep_atoms)
        return cls(
            reading_flops=flops_per_token(read, sequence_length, 0.0) / 3,
            coding_flops=coding_flops(num_atoms, config.hidden_size, coding),
            token_bytes=ENTRY_BYTES * entries + TOKEN_BYTES,
        )

    def of_a_cache(self, flops_per_second: float, rate: float) -> str:
        """Say what a cache of targets takes, and when it pays off.

        Args:
            flops_per_second: that the machine is expected to reach.
            rate: share of the tokens that is scored in a pass over the text.
        """
        minutes = 1e6 * (self.reading_flops + self.coding_flops) / flops_per_second / 60
        return (
            f"a cache takes about {self.token_bytes:,.0f} MB and {minutes:,.1f} min for a million tokens, and pays off "
            f"after {self.passes_to_pay_off(rate):.1f} passes over the text"
        )

    def passes_to_pay_off(self, rate: float) -> float:
        """Return after how many passes over the text a cache has cost less than coding online.

        A cache codes every token once; online, a share `rate` of the tokens is coded again in every pass.
        """
        return (self.reading_flops + self.coding_flops) / (self.reading_flops + rate * self.coding_flops)


def coding_flops(num_atoms: int, width: int, coding: CodingOptions) -> float:
    """Return the operations of one code."""
    by_atoms, by_gram_matrix = 4.0 * num_atoms * width, 2.0 * num_atoms * num_atoms
    if coding.solver == "fista":
        return coding.num_iterations * min(by_atoms, by_gram_matrix)
    return EXACT_STEPS * by_atoms
