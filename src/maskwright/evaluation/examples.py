"""Fill-mask examples from held-out text: short sentences with one token hidden, and what the model makes of them.

A handful drawn blindly shows a newcomer wrong guesses and no more. So scored tokens are sorted by how sure the model is
of its first guess, and examples are shown of the surest and of the others, with how often such guesses are right.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from maskwright.core.randomness import numpy_generator
from maskwright.corpus.corpus import TokenSplit
from maskwright.evaluation.fill import best_guesses, decode_tokens
from maskwright.evaluation.scorer import Cloze, MaskedLanguageModel

SENTENCE = re.compile(r"[^\s.!?][^.!?\n]{28,140}[.!?](?=\s|$)")
"""A sentence short enough to read at a glance, by its punctuation."""

MAX_EXCERPT_TOKENS = 512
"""How much of a document is searched for a sentence."""

MAX_EXCERPTS = 500
"""How many excerpts are searched before there are fewer examples than asked for."""

NUM_EXCERPT_CHARACTERS = 100
"""What is shown of a text without sentences (verse, lists, DNA)."""

NUM_AT_ONCE = 32
"""Sentences in a batch."""

GROUPS = (("the tenth it is surest of", 10), ("the rest of the surer half", 50), ("the half it is less sure of", 100))
"""Of hidden tokens, in order of the first guess's probability, and where each group ends, in percent of all."""


@dataclass(frozen=True)
class HiddenToken:
    """A sentence with one token hidden.

    Attributes:
        text: with `[MASK]`, whatever the tokenizer's own mask token is.
        answer: what stood there.
        cloze: the same for a model.
    """

    text: str
    answer: str
    cloze: Cloze


def certainty_groups(probability_M: np.ndarray, is_right_M: np.ndarray) -> list[dict[str, Any]]:
    """Sort scored tokens by how sure the model is, and say of each group how often it is right.

    Args:
        probability_M: [M], of the first guess at every scored token.
        is_right_M: bool [M], whether it is the token.

    Returns:
        The groups that have tokens, the surest first: "name", "num_tokens", "num_right", "mean_probability" and
        "lowest_probability".
    """
    surest_first = np.argsort(-probability_M, kind="stable")
    ends = [-(-len(surest_first) * percent // 100) for _, percent in GROUPS]
    members_of_groups = np.split(surest_first, ends[:-1])
    return [
        {
            "name": name,
            "num_tokens": len(members),
            "num_right": int(is_right_M[members].sum()),
            "mean_probability": float(probability_M[members].mean()),
            "lowest_probability": float(probability_M[members].min()),
        }
        for (name, _), members in zip(GROUPS, members_of_groups, strict=True)
        if len(members)
    ]


def fill_mask_examples(
    model: MaskedLanguageModel, split: TokenSplit, groups: list[dict[str, Any]], num_examples: int, seed: int
) -> list[dict[str, Any]]:
    """Hide one token in each of a few held-out sentences, let the model guess, and return some of every group.

    Sentences and tokens are drawn before the model sees them. To which group an example belongs is a matter of the
    first guess's probability, whether it is right or not; the first that were drawn are shown.

    Args:
        model: the model that guesses.
        split: held-out documents, tokenized by the model's tokenizer.
        groups: see `certainty_groups`.
        num_examples: how many, shared out over the groups; fewer where the text has no more sentences.
        seed: of the choice of sentences and tokens.

    Returns:
        For each: "text" with `[MASK]`, "answer", "predictions", the five best guesses as "token" and "probability"
        (over the whole vocabulary), and "group". The surest group comes first.
    """
    num_groups = len(groups)
    wanted = [num_examples // num_groups + (index < num_examples % num_groups) for index in range(num_groups)]
    found: list[list[dict[str, Any]]] = [[] for _ in groups]
    hidden = hidden_tokens(model, split, seed)
    while any(len(members) < most for members, most in zip(found, wanted, strict=True)):
        batch = list(islice(hidden, NUM_AT_ONCE))
        if not batch:
            break
        for each, guesses in zip(batch, best_guesses(model, [each.cloze for each in batch], top=5), strict=True):
            lowest = [group["lowest_probability"] for group in groups[:-1]]
            index = next((index for index, low in enumerate(lowest) if guesses[0].probability >= low), num_groups - 1)
            if len(found[index]) < wanted[index]:
                predictions = [{"token": guess.token, "probability": guess.probability} for guess in guesses]
                found[index].append(
                    {"text": each.text, "answer": each.answer, "predictions": predictions, "group": groups[index]}
                )
    return [example for members in found for example in members]


def hidden_tokens(model: MaskedLanguageModel, split: TokenSplit, seed: int) -> Iterator[HiddenToken]:
    """Yield sentences, each once and with one token hidden; as many as `short_texts` finds."""
    generator = numpy_generator(seed, "fill_mask_examples")
    seen: set[str] = set()
    for sentence in short_texts(model, split, generator):
        if sentence not in seen and (hidden := hidden_token(model, sentence, generator)) is not None:
            yield hidden
        seen.add(sentence)


def short_texts(model: MaskedLanguageModel, split: TokenSplit, generator: np.random.Generator) -> Iterator[str]:
    """Yield short readable pieces of text, one document after the other in random order.

    Where documents are few and long, each has several turns, with an excerpt from another position. Of an excerpt only
    the longest stretch is read that holds no run of tokens which the training text has too, if the corpus says so.
    """
    for document in np.resize(generator.permutation(split.num_documents), MAX_EXCERPTS):
        length = int(split.document_lengths[document])
        start = int(generator.integers(0, max(1, length - MAX_EXCERPT_TOKENS)))
        count = min(length - start, MAX_EXCERPT_TOKENS, model.max_tokens)
        excerpt = split.gather_tokens(np.array([document]), np.array([start]), np.array([count])).token_ids
        clean = slice(0, count)
        if split.is_shared is not None:
            first = split.first_tokens[document] + start
            clean = longest_stretch(~split.is_shared[first : first + count])
        text = tidy_spaces(decode_tokens(model, excerpt[clean].tolist()))
        sentences = SENTENCE.findall(text if start + clean.start == 0 else text.partition(" ")[2])
        sentences = [sentence for sentence in sentences if is_prose(sentence)]
        if sentences:
            yield sentences[int(generator.integers(len(sentences)))]
        elif text and not SENTENCE.search(tidy_spaces(decode_tokens(model, excerpt.tolist()))):
            yield text[:NUM_EXCERPT_CHARACTERS]


def longest_stretch(is_wanted: np.ndarray) -> slice:
    """Return where the longest run of true values is, of equals the first; empty if there is none."""
    borders = np.flatnonzero(np.diff(is_wanted.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    return slice(*borders[np.diff(borders)[:, 0].argmax()].tolist()) if len(borders) else slice(0, 0)


def tidy_spaces(text: str) -> str:
    """Close the gaps that some tokenizers leave around punctuation when they turn tokens into text."""
    text = re.sub(r" (['’]) (?=(?:s|t|re|ve|ll|d|m)\b)", r"\1", text)
    return re.sub(r"(?<=[(\[]) | (?=[.,;:!?)\]])", "", text)


def is_prose(sentence: str) -> bool:
    """Return whether a piece of text reads like a sentence: a capital (if there are any) first, mostly letters."""
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return not sentence[0].islower() and sentence[0].isalpha() and letters > 0.92 * len(sentence)


def hidden_token(model: MaskedLanguageModel, text: str, generator: np.random.Generator) -> HiddenToken | None:
    """Hide one token of a text that reads alone as it does there, so no continuation of a word; None without any."""
    encoding = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    token_ids = np.array(encoding["input_ids"], dtype=np.int64)
    # The offsets of some tokenizers take the space before a word in.
    spans = [(end - len(text[begin:end].lstrip()), end) for begin, end in encoding["offset_mapping"]]
    special_ids = set(model.vocabulary.special_ids)
    candidates = [
        position
        for position, token_id in enumerate(token_ids.tolist())
        if token_id not in special_ids and text[slice(*spans[position])] == decode_tokens(model, [token_id]) != ""
    ]
    if not candidates or len(token_ids) > model.max_tokens:
        return None
    position = candidates[int(generator.integers(len(candidates)))]
    begin, end = spans[position]
    masked = token_ids.copy()
    masked[position] = model.vocabulary.mask_id
    cloze = Cloze(masked, np.array([position]), token_ids[[position]])
    return HiddenToken(f"{text[:begin]}[MASK]{text[end:]}", text[begin:end], cloze)
