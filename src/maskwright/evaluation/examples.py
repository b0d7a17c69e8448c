"""Fill-mask examples from held-out text: short sentences with one word hidden, and what the model makes of them."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from maskwright.core.randomness import numpy_generator
from maskwright.corpus.corpus import TokenSplit
from maskwright.evaluation.fill import best_guesses, decode_tokens
from maskwright.evaluation.scorer import Cloze, MaskedLanguageModel

SENTENCE = re.compile(r"[^\s.!?][^.!?\n]{28,140}[.!?](?=\s|$)")
"""A sentence short enough to read at a glance, by its punctuation."""

WORD = re.compile(r"\b[^\W\d_]{4,}\b")
"""A word of letters, long enough to be more than grammar in most languages."""

MAX_EXCERPT_TOKENS = 512
"""How much of a document is searched for a sentence."""

MAX_EXCERPTS = 500
"""How many excerpts are searched before there are fewer examples than asked for."""

NUM_EXCERPT_CHARACTERS = 100
"""What is shown of a text without sentences (verse, lists, DNA)."""


def fill_mask_examples(
    model: MaskedLanguageModel, split: TokenSplit, num_examples: int, seed: int
) -> list[dict[str, Any]]:
    """Hide one word in each of a few held-out sentences and let the model guess it.

    Args:
        model: the model that guesses.
        split: held-out documents, tokenized by the model's tokenizer.
        num_examples: how many; fewer where the text has no more sentences.
        seed: of the choice of sentences and words; the model has no part in it.

    Returns:
        For each: "text" with `[MASK]`, whatever the tokenizer's own mask token is; "answer"; and "predictions", the
        five best guesses as "token" and "probability" (over the whole vocabulary).
    """
    examples: list[dict[str, Any]] = []
    seen: set[str] = set()
    if not num_examples:
        return examples
    generator = numpy_generator(seed, "fill_mask_examples")
    for sentence in short_texts(model, split, generator):
        if sentence not in seen and (hidden := hidden_word(model, sentence, generator)) is not None:
            examples.append(hidden)
        seen.add(sentence)
        if len(examples) == num_examples:
            break
    return examples


def short_texts(model: MaskedLanguageModel, split: TokenSplit, generator: np.random.Generator) -> Iterator[str]:
    """Yield short readable pieces of text, one document after the other in random order.

    Where documents are few and long, each has several turns, with an excerpt from another position.
    """
    for document in np.resize(generator.permutation(split.num_documents), MAX_EXCERPTS):
        length = int(split.document_lengths[document])
        start = int(generator.integers(0, max(1, length - MAX_EXCERPT_TOKENS)))
        count = min(length - start, MAX_EXCERPT_TOKENS, model.max_tokens)
        token_ids = split.gather_tokens(np.array([document]), np.array([start]), np.array([count])).token_ids
        text = tidy_spaces(decode_tokens(model, token_ids.tolist()))
        sentences = SENTENCE.findall(text if start == 0 else text.partition(" ")[2])
        sentences = [sentence for sentence in sentences if is_prose(sentence)]
        if sentences:
            yield sentences[int(generator.integers(len(sentences)))]
        elif not SENTENCE.search(text):
            yield text[:NUM_EXCERPT_CHARACTERS]


def tidy_spaces(text: str) -> str:
    """Close the gaps that some tokenizers leave around punctuation when they turn tokens into text."""
    text = re.sub(r" (['’]) (?=(?:s|t|re|ve|ll|d|m)\b)", r"\1", text)
    return re.sub(r"(?<=[(\[]) | (?=[.,;:!?)\]])", "", text)


def is_prose(sentence: str) -> bool:
    """Return whether a piece of text reads like a sentence: a capital (if there are any) first, mostly letters."""
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return not sentence[0].islower() and sentence[0].isalpha() and letters > 0.92 * len(sentence)


def hidden_word(model: MaskedLanguageModel, text: str, generator: np.random.Generator) -> dict[str, Any] | None:
    """Hide one word of a text that is a single token, or else any token of letters; None if there is neither."""
    encoding = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    token_ids = np.array(encoding["input_ids"], dtype=np.int64)
    words = {match.span() for match in WORD.finditer(text)}
    # The offsets of some tokenizers take the space before a word in.
    spans = [(end - len(text[begin:end].lstrip()), end) for begin, end in encoding["offset_mapping"]]
    special_ids = set(model.vocabulary.special_ids)
    of_text = [position for position, token_id in enumerate(token_ids.tolist()) if token_id not in special_ids]
    candidates = [position for position in of_text if spans[position] in words]
    candidates = candidates or [position for position in of_text if text[slice(*spans[position])].isalpha()]
    if not candidates or len(token_ids) > model.max_tokens:
        return None
    position = candidates[int(generator.integers(len(candidates)))]
    begin, end = spans[position]
    masked = token_ids.copy()
    masked[position] = model.vocabulary.mask_id
    (guesses,) = best_guesses(model, Cloze(masked, np.array([position]), token_ids[[position]]), top=5)
    return {
        "text": f"{text[:begin]}[MASK]{text[end:]}",
        "answer": text[begin:end],
        "predictions": [{"token": guess.token, "probability": guess.probability} for guess in guesses],
    }
