"""Fill-mask: a model's guesses for each [MASK] in a text."""

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.scorer import Cloze, MaskedLanguageModel

MASK_WORDS = ("[MASK]", "<mask>")
"""What users write for a mask, whatever the tokenizer's own mask token is."""


@dataclass(frozen=True)
class Guess:
    """One guess for a mask.

    Attributes:
        token: its text, without the space before it.
        token_id: its id.
        probability: over the whole vocabulary.
    """

    token: str
    token_id: int
    probability: float


@dataclass(frozen=True)
class FilledText:
    """A text with its masks filled.

    Attributes:
        text: the text with the best guess at every mask.
        guesses: for each mask, from left to right, the best guesses first. Masks are filled independently.
    """

    text: str
    guesses: list[list[Guess]]


def best_guesses(model: MaskedLanguageModel, clozes: list[Cloze], top: int) -> list[list[Guess]]:
    """Return the `top` most probable tokens at each asked position of a few sequences, special tokens left out."""
    # A model may have more embeddings than its tokenizer has tokens, and a tokenizer tokens that the model lacks.
    probabilities = model.probabilities(clozes)[:, : model.vocabulary.size]
    probabilities[:, [index for index in model.vocabulary.special_ids if index < probabilities.shape[1]]] = 0
    values, token_ids = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
    return [
        [Guess(decode_tokens(model, [token_id]), token_id, value) for value, token_id in zip(*pair, strict=True)]
        for pair in zip(values.tolist(), token_ids.tolist(), strict=True)
    ]


def decode_tokens(model: MaskedLanguageModel, token_ids: list[int]) -> str:
    """Return the text of tokens, without space around it."""
    return str(model.tokenizer.decode(token_ids)).strip()


def fill_masks(model: MaskedLanguageModel, text: str, top: int = 5) -> FilledText:
    """Fill the masks of a text.

    Args:
        model: the model that guesses.
        text: with one or more masks, written as the tokenizer's mask token, `[MASK]` or `<mask>`.
        top: guesses a mask.

    Raises:
        EvaluationError: the text has no mask, or is longer than the model takes.
    """
    pieces = pieces_between_masks(model, text)
    token_ids = masked_token_ids(model, pieces)
    positions = np.flatnonzero(token_ids == model.vocabulary.mask_id)
    cloze = Cloze(token_ids, positions, np.full(len(positions), model.vocabulary.mask_id))
    guesses = best_guesses(model, [cloze], top)
    filled = pieces[0]
    for (best, *_), piece in zip(guesses, pieces[1:], strict=True):
        is_continuation = best.token.startswith("##")
        filled = (filled.rstrip() + best.token[2:] if is_continuation else filled + best.token) + piece
    return FilledText(filled, guesses)


def pieces_between_masks(model: MaskedLanguageModel, text: str) -> list[str]:
    """Split a text at its masks, NFC-normalised.

    Raises:
        EvaluationError: it has none.
    """
    mask = str(model.tokenizer.mask_token)
    written = "|".join(re.escape(word) for word in dict.fromkeys((mask, *MASK_WORDS)))
    pieces = re.split(written, unicodedata.normalize("NFC", text))
    if len(pieces) == 1:
        raise EvaluationError(
            "the text has no mask",
            f"{mask} where a word is to be filled in",
            f'for example "The court {mask} the appeal."',
        )
    return pieces


def masked_token_ids(model: MaskedLanguageModel, pieces: list[str]) -> np.ndarray:
    """Return the tokens of a text with a mask between its pieces, without [CLS] and [SEP], int64.

    Raises:
        EvaluationError: the text is longer than the model takes.
    """
    text = str(model.tokenizer.mask_token).join(pieces)
    token_ids = np.array(model.tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)
    if len(token_ids) > model.max_tokens:
        raise EvaluationError(
            f"the text has {len(token_ids):,} tokens",
            f"at most {model.max_tokens:,}, the length the model was built for",
            "shorten the text around the mask",
        )
    return token_ids
