"""Probes during training: held-out text and minimal pairs, the same small sample every time."""

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from maskwright.core.randomness import numpy_generator
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.encoder import Encoder
from maskwright.evaluation.datasets.pairs import Pairs, phenomena_of
from maskwright.evaluation.pseudo_likelihood import Mode, pseudo_log_likelihoods, tokenize
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.tasks.held_out import HeldOutClozes, items_by_document, joined, means_of


class ClozeProbe:
    """Hidden tokens of held-out text as a probe during training: cheap, and the same questions for every objective."""

    def __init__(self, corpus: Corpus, sequence_length: int, seed: int, max_tokens: int = 20_000) -> None:
        """Read the questions once.

        Args:
            corpus: its held-out split is sampled.
            sequence_length: longest sequence, with [CLS] and [SEP].
            seed: of the sample; the final evaluation with the same seed hides the same tokens.
            max_tokens: size of the sample.
        """
        self._corpus, self._tokenizer = corpus, corpus.load_tokenizer()
        clozes = HeldOutClozes(
            corpus.split("held_out"), corpus.vocabulary, sequence_length, seed, max_tokens=max_tokens
        )
        self._questions = list(clozes.with_positions())

    def __call__(
        self,
        encoder: Encoder,
        head: nn.Module,
        dtype: torch.dtype = torch.float32,
        reader: nn.Module | None = None,
    ) -> dict[str, float]:
        """Score live modules and restore their mode afterwards; arguments are those of `MaskedLanguageModel`.

        Returns:
            "held_out_cross_entropy" (nats per scored token), "held_out_top1_accuracy" and "held_out_top5_accuracy", the
            same of clean tokens ("held_out_clean_cross_entropy" and so on), and "held_out_bits_per_byte"; see
            `tasks.held_out.means_of`.
        """
        model = MaskedLanguageModel(encoder, head, self._tokenizer, dtype, reader=reader)
        scores = joined(list(model.score(cloze for _, cloze in self._questions)))
        positions_M = np.concatenate([positions for positions, _ in self._questions])
        means = means_of(items_by_document(self._corpus, positions_M, scores))
        return {f"held_out_{metric}": value for metric, value in means.items()}


class MinimalPairsProbe:
    """The accuracy on a sample of minimal pairs, by phenomenon; a tie counts half.

    Attributes:
        num_pairs: how many are scored.
        num_tokens: the most that a call sends through the encoder, forward only; training costs three times as much a
            token.
    """

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: PreTrainedTokenizerFast,
        num_pairs: int,
        seed: int,
        name: str = "blimp",
        mode: Mode = "original",
        max_tokens: int | None = None,
    ) -> None:
        """Draw and tokenize the sample once.

        Args:
            pairs: what is drawn from, evenly over the paradigms.
            tokenizer: the model's.
            num_pairs: how many are drawn; all if there are fewer.
            seed: of the sample.
            name: what the metrics begin with.
            mode: how sentences are scored.
            max_tokens: the longest sentence the model takes, without special tokens; what is longer is cut.
        """
        sample = pairs.take(even_sample(pairs.paradigm_index, num_pairs, seed))
        texts = [text for pair in zip(sample.good, sample.bad, strict=True) for text in pair]
        self._tokenizer, self._name = tokenizer, name
        self._mode: Mode = mode
        self._sentences = tokenize(tokenizer, texts, max_tokens)
        self._phenomenon_of_pair = np.array(phenomena_of(pairs.paradigms))[sample.paradigm_index]
        self.num_pairs = len(sample)
        self.num_tokens = self._sentences.num_encoded_tokens

    def __call__(
        self,
        encoder: Encoder,
        head: nn.Module,
        dtype: torch.dtype = torch.float32,
        reader: nn.Module | None = None,
    ) -> dict[str, float]:
        """Score live modules and restore their mode afterwards; arguments are those of `MaskedLanguageModel`.

        Returns:
            "blimp_accuracy", the mean over the phenomena, and "blimp_<phenomenon>" for each, from 0 to 1.
        """
        model = MaskedLanguageModel(encoder, head, self._tokenizer, dtype, reader=reader)
        log_likelihoods, _ = pseudo_log_likelihoods(model, self._sentences, self._mode)
        credit = (np.sign(log_likelihoods[0::2] - log_likelihoods[1::2]) + 1) / 2
        phenomena = sorted(set(self._phenomenon_of_pair.tolist()))
        accuracies = {each: float(credit[self._phenomenon_of_pair == each].mean()) for each in phenomena}
        mean = float(np.mean(list(accuracies.values())))
        return {f"{self._name}_accuracy": mean} | {f"{self._name}_{each}": value for each, value in accuracies.items()}


def even_sample(paradigm_index: np.ndarray, num_pairs: int, seed: int) -> np.ndarray:
    """Return the indices of a random sample with as many pairs of every paradigm as possible, ascending."""
    shuffled = numpy_generator(seed, "minimal_pairs_probe").permutation(len(paradigm_index))
    by_paradigm = shuffled[np.argsort(paradigm_index[shuffled], kind="stable")]
    counts = np.bincount(paradigm_index)
    rank = np.arange(len(by_paradigm)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Every paradigm gives its first, then every one its second, and so on; who comes first in a round is random.
    turn = np.lexsort((numpy_generator(seed, "minimal_pairs_turn").permutation(len(rank)), rank))
    return np.sort(by_paradigm[turn[:num_pairs]])
