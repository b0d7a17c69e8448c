"""Item scores equal those of the BabyLM pipelines, written down here once more, straight on transformers.

The pipelines themselves are compared by hand: benchmarks/babylm_parity.py.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from maskwright.encoders import build_encoder
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.pseudo_likelihood import pseudo_log_likelihoods, tokenize
from maskwright.export import export_model
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

TEXT = [
    "The court dismissed the appeal on procedural grounds.",
    "She closed the door and walked slowly down the stairs.",
    "Nobody knew why the old bridge had been painted green.",
]
SENTENCES = [
    *TEXT,
    "The courts dismissed itself.",
    "David: Should you quit?\nSarah: No, I shouldn't.",
    "Wer hätte das gedacht, fragte sie 1999.",
    "the the the",
    "A",
]


@pytest.fixture(scope="module", params=[("wordpiece", "modernbert"), ("bpe", "bert"), ("unigram", "modernbert")])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model whose weights are large enough to have opinions."""
    kind, family = request.param
    tokenizer: PreTrainedTokenizerFast = train_tokenizer(TEXT * 4, TokenizerConfig(kind=kind, vocabulary_size=300))
    shape = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "feed_forward_size": 32, "initializer_range": 0.3}
    encoder = build_encoder(family, None, shape, vocabulary_of(tokenizer), 64, seed=1)
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(encoder, {"vocabulary": VocabularyHead(encoder.config, seed=1)}, tokenizer, folder)
    return folder


def their_log_probabilities(folder: Path, sentence: str, positions_to_read: int) -> tuple[list[int], torch.Tensor]:
    """Return the token ids of a sentence and, for each position hidden alone, the log-probability of its token.

    Args:
        folder: of the model.
        sentence: as it goes to the tokenizer.
        positions_to_read: 0 reads the prediction where the token is hidden, -1 one place to the left.
    """
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    ids = tokenizer(sentence)["input_ids"]
    found = torch.full((len(ids),), math.nan)
    for position in range(len(ids)):
        hidden = torch.tensor([ids])
        hidden[0, position] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=hidden).logits[0]
        if position + positions_to_read >= 0:
            found[position] = logits[position + positions_to_read].log_softmax(-1)[ids[position]]
    return ids, found


def score_of_2023(folder: Path, sentence: str) -> float:
    """Return the score in bits: a space before the sentence, every token but the first and the last."""
    _, found = their_log_probabilities(folder, " " + sentence, 0)
    return float(found[1:-1].double().sum() / math.log(2))


def score_of_2025(folder: Path, sentence: str, backend: str) -> float:
    """Return the score in nats: the tokens whose characters reach into the sentence, which is all there is."""
    _, found = their_log_probabilities(folder, sentence, 0 if backend == "mlm" else -1)
    offsets = AutoTokenizer.from_pretrained(folder)(sentence, return_offsets_mapping=True)["offset_mapping"]
    return sum(float(found[position]) for position, (_, end) in enumerate(offsets) if end > 0)


def our_scores(folder: Path, mode: str, leading_space: bool) -> np.ndarray:
    model = EvaluatedModel(folder, device=torch.device("cpu")).masked_language_model
    return pseudo_log_likelihoods(model, tokenize(model.tokenizer, SENTENCES, leading_space=leading_space), mode)[0]  # pyright: ignore[reportArgumentType]


def test_scores_of_2023_and_2024(exported: Path) -> None:
    ours = our_scores(exported, "original", leading_space=True) / math.log(2)
    assert ours == pytest.approx([score_of_2023(exported, sentence) for sentence in SENTENCES], abs=1e-4)


@pytest.mark.parametrize(("backend", "mode"), [("mlm", "original"), ("mntp", "mntp")])
def test_scores_of_2025_and_2026(exported: Path, backend: str, mode: str) -> None:
    ours = our_scores(exported, mode, leading_space=False)
    assert ours == pytest.approx([score_of_2025(exported, sentence, backend) for sentence in SENTENCES], abs=1e-4)
