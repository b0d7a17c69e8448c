"""The formula for the cost of a training step agrees with torch's counter."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.encoders.attention import padded
from maskwright.encoders.flops import flops_per_token
from maskwright.heads.vocabulary import VocabularyHead


@pytest.mark.parametrize("family", ["modernbert", "bert"])
@pytest.mark.parametrize(
    ("num_layers", "hidden_size", "feed_forward_size", "sequence_length", "scored_fraction"),
    [(2, 64, 128, 32, 0.25), (3, 32, 64, 64, 1.0), (4, 128, 192, 64, 0.125)],
)
def test_the_formula_is_within_three_percent_of_the_counter(
    vocabulary: Vocabulary,
    random_batch: Callable[..., PackedBatch],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    num_layers: int,
    hidden_size: int,
    feed_forward_size: int,
    sequence_length: int,
    scored_fraction: float,
) -> None:
    monkeypatch.setattr(padded, "is_matmul_faster", lambda *_: True)
    shape = {"num_layers": num_layers, "hidden_size": hidden_size, "feed_forward_size": feed_forward_size}
    encoder = build_encoder(family, None, shape | {"num_heads": 2}, vocabulary, sequence_length, seed=0)
    head = VocabularyHead(encoder.config)
    batch = random_batch([sequence_length - 2] * 4, row_length=sequence_length)
    num_tokens = len(batch.token_ids_T)
    with FlopCounterMode(display=False) as counter:
        x_TD = encoder(batch.input)
        logits_MV = head(x_TD[: int(num_tokens * scored_fraction)], encoder.embedding_weight_VE)
        torch.logsumexp(logits_MV, dim=-1).sum().backward()
    formula = flops_per_token(encoder.config, sequence_length, scored_fraction)
    assert formula == pytest.approx(counter.get_total_flops() / num_tokens, rel=0.03)


@pytest.mark.parametrize("family", ["deberta", "deberta_v2"])
def test_the_terms_with_positions_are_counted(
    vocabulary: Vocabulary, random_batch: Callable[..., PackedBatch], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """Relative positions are projected once a batch, which the formula leaves out: under 2 % of 40 sequences' cost."""
    monkeypatch.setattr(padded, "is_matmul_faster", lambda *_: True)
    shape = {"num_layers": 2, "hidden_size": 64, "feed_forward_size": 128, "num_heads": 2}
    encoder = build_encoder(family, None, shape, vocabulary, 32, seed=0)
    batch = random_batch([30] * 40, row_length=32)
    with FlopCounterMode(display=False) as counter:
        encoder(batch.input).sum().backward()
    formula = flops_per_token(encoder.config, 32, 0.0)
    assert formula == pytest.approx(counter.get_total_flops() / len(batch.token_ids_T), rel=0.03)


def test_published_sizes_cost_what_they_should(vocabulary: Vocabulary) -> None:
    def gigaflops(family: str, vocabulary_size: int, length: int, fraction: float) -> float:
        overrides = {"vocabulary_size": vocabulary_size, "num_layers": 22 if family == "modernbert" else 12}
        shape = {"hidden_size": 768, "num_heads": 12, "feed_forward_size": 1152 if family == "modernbert" else 3072}
        config = type(build_encoder(family, "tiny", {}, vocabulary, 64, 0)).Config
        values = {"max_positions": length, "pad_token_id": 0, **overrides, **shape}
        return flops_per_token(config.model_validate(values), length, fraction) / 1e9

    assert gigaflops("bert", 30522, 512, 0.15) == pytest.approx(0.588, abs=0.001)
    assert gigaflops("modernbert", 50368, 1024, 0.30) == pytest.approx(0.824, abs=0.001)
    assert gigaflops("modernbert", 50368, 8192, 0.30) == pytest.approx(1.353, abs=0.001)
