"""What a selected token is replaced with: the mask token, a random token, or itself."""

import torch
from torch import Tensor

from maskwright.core.vocabulary import Vocabulary


class Replacement:
    """Draws, for each selected token independently, whether it becomes [MASK], a random token or stays.

    One uniform number a token decides, so the three probabilities are exact. Random tokens are drawn from the whole
    vocabulary but the special tokens.
    """

    def __init__(self, mask_fraction: float, random_fraction: float, vocabulary: Vocabulary) -> None:
        """Keep the fractions; what is left of 1 stays unchanged."""
        self._mask_fraction, self._random_fraction = mask_fraction, random_fraction
        self._mask_id = vocabulary.mask_id
        is_text = torch.ones(vocabulary.size, dtype=torch.bool)
        is_text[list(vocabulary.special_ids)] = False
        self._text_ids = is_text.nonzero().squeeze(1)

    def __call__(self, token_ids_M: Tensor, generator: torch.Generator) -> Tensor:
        """Return the replacements.

        Args:
            token_ids_M: int64 [M], the clean tokens; not changed.
            generator: on the CPU.
        """
        num_selected = len(token_ids_M)
        draw = torch.rand(num_selected, generator=generator)
        random_ids = self._text_ids[torch.randint(len(self._text_ids), (num_selected,), generator=generator)]
        replaced = torch.where(draw < self._mask_fraction + self._random_fraction, random_ids, token_ids_M)
        return replaced.masked_fill(draw < self._mask_fraction, self._mask_id)
