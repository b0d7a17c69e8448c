"""Masked language modelling: predict the tokens that were hidden, from both sides.

Source: Devlin et al. 2018, arXiv:1810.04805; masks that are drawn again whenever a text is read, and full sentences,
    from Liu et al. 2019, arXiv:1907.11692; rates above 15 % and [MASK] alone from Wettig et al. 2022, arXiv:2202.08005.
Departures: the share of scored tokens is exact in every micro-batch instead of drawn per token or rounded per
    sequence; random replacements are never special tokens; always-[MASK] at 30 % is the default.
Cost: the encoder, and the vocabulary head at the scored positions.
Prefer: whenever there is no reason for another; it is the yardstick of the others.
"""

from maskwright.objectives.masked import MaskedConfig, MaskedObjective


class Mlm(MaskedObjective):
    """Masked language modelling (BERT, RoBERTa)."""

    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"

    class Config(MaskedConfig):
        """Options of `mlm`."""
