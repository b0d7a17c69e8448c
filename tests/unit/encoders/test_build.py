"""Encoders are made from names, sizes and overrides, and their first weights are a function of the seed."""

import re
from pathlib import Path

import pytest
import torch

from maskwright.core.discovery import plug_in_names
from maskwright.core.errors import RecipeError
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_config, build_encoder
from maskwright.encoders.build import FAMILIES, empty_encoder, load_family

OWN_FAMILIES = [name for name in plug_in_names(FAMILIES) if not load_family(name).is_foreign]
SIZE_NAMES = ["tiny", "mini", "small", "medium", "base", "large"]
DOCS = Path(__file__).parents[3] / "docs" / "encoders.md"


def non_embedding_parameters(family: str, size: str, vocabulary: Vocabulary) -> int:
    encoder = empty_encoder(load_family(family), build_config(family, size, {}, vocabulary, 512))
    return sum(weight.numel() for name, weight in encoder.named_parameters() if "_embedding." not in name)


@pytest.mark.parametrize("family", OWN_FAMILIES)
def test_every_family_has_every_size_and_tiny_is_about_a_million(family: str, vocabulary: Vocabulary) -> None:
    sizes = list(load_family(family).SIZES)
    assert [size for size in sizes if size in SIZE_NAMES] == SIZE_NAMES
    counts = [non_embedding_parameters(family, size, vocabulary) for size in sizes]
    assert counts == sorted(counts)
    assert counts[0] == pytest.approx(1e6, rel=0.03)


def test_the_table_in_the_docs_is_right(vocabulary: Vocabulary) -> None:
    rows = re.findall(
        r"^\| (\w+) \| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) M \|$", DOCS.read_text(), re.M
    )
    assert [(row[0], row[1]) for row in rows] == [
        (family, size)
        for family in ("modernbert", "bert", "electra", "albert", "deberta", "deberta_v2")
        for size in load_family(family).SIZES
    ]
    for family, size, num_layers, hidden_size, num_heads, feed_forward_size, millions in rows:
        config = build_config(family, size, {}, vocabulary, 512)
        written = tuple(map(int, (num_layers, hidden_size, num_heads, feed_forward_size)))
        assert written == (config.num_layers, config.hidden_size, config.num_heads, config.feed_forward_size)
        assert f"{non_embedding_parameters(family, size, vocabulary) / 1e6:.1f}" == millions


@pytest.mark.parametrize("family", OWN_FAMILIES)
def test_weights_are_a_function_of_the_seed_alone(family: str, vocabulary: Vocabulary) -> None:
    state_before = torch.get_rng_state()
    first = build_encoder(family, "tiny", {}, vocabulary, 64, seed=1).state_dict()
    torch.rand(3)
    torch.set_rng_state(state_before)
    second = build_encoder(family, "tiny", {}, vocabulary, 64, seed=1).state_dict()
    other = build_encoder(family, "tiny", {}, vocabulary, 64, seed=2).state_dict()
    assert torch.equal(torch.get_rng_state(), state_before)
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    assert not torch.equal(first["token_embedding.weight"], other["token_embedding.weight"])


def test_modernbert_starts_with_smaller_output_matrices_in_deeper_encoders(vocabulary: Vocabulary) -> None:
    encoder = build_encoder("modernbert", "tiny", {}, vocabulary, 64, seed=0)
    weights = encoder.state_dict()
    cut_normal = 0.02 * 0.8796  # standard deviation of a normal distribution cut off at two of its own
    assert weights["blocks.3.qkv.weight"].std().item() == pytest.approx(cut_normal, rel=0.03)
    assert weights["blocks.3.attention_out.weight"].std().item() == pytest.approx(cut_normal / 12**0.5, rel=0.03)
    assert weights["blocks.3.feed_forward_out.weight"].std().item() == pytest.approx(cut_normal / 12**0.5, rel=0.03)
    assert weights["blocks.3.qkv.weight"].abs().max() <= 0.04
    assert torch.equal(weights["output_norm.weight"], torch.ones(128))


def test_overrides_win_over_the_size(vocabulary: Vocabulary) -> None:
    config = build_config("bert", "tiny", {"num_layers": 2, "norm_position": "pre"}, vocabulary, 64)
    assert (config.num_layers, config.hidden_size, config.max_positions) == (2, 128, 64)


@pytest.mark.parametrize(
    ("family", "size", "overrides", "message"),
    [
        ("modernbart", "tiny", {}, "did you mean 'modernbert'"),
        ("modernbert", "bas", {}, "did you mean 'base'"),
        ("modernbert", "tiny", {"hidden_sizes": 3}, "did you mean 'hidden_size'"),
        ("modernbert", "tiny", {"num_heads": 3}, "not an even multiple of num_heads 3"),
        ("modernbert", "tiny", {"num_layers": 0, "norm_eps": -1}, "num_layers.*; norm_eps"),
        ("modernbert", None, {}, "hidden_size: Field required"),
        ("bert", "tiny", {"norm_position": "middle"}, "norm_position"),
        ("deberta", "tiny", {"content_to_position": False, "position_to_content": False}, "use the family bert"),
        ("deberta", "tiny", {"position_buckets": 256}, "deberta has no option 'position_buckets'"),
        ("deberta_v2", "tiny", {"position_buckets": 3}, "position_buckets is 3"),
        ("hugging_face", "small", {"model_type": "bert"}, "hugging_face has no size 'small'"),
        ("hugging_face", None, {}, "needs to know which architecture"),
        ("hugging_face", None, {"model_type": "robreta"}, "'robreta', did you mean 'roberta'"),
        ("hugging_face", None, {"model_type": "gpt2"}, "no masked encoder with the model_type 'gpt2'"),
        ("hugging_face", None, {"model_type": "t5"}, "no masked encoder"),
        ("hugging_face", None, {"model_type": "bart"}, "bart with is_encoder_decoder: true is no masked encoder"),
        ("hugging_face", None, {"model_type": "bert", "is_decoder": True}, "with is_decoder: true"),
        ("hugging_face", None, {"model_type": "roberta", "num_layers": 2}, "'num_layers', did you mean 'num_hidden_l"),
        ("hugging_face", None, {"model_type": "bert", "position_buckets": 2}, "no option 'position_buckets'"),
        ("hugging_face", None, {"model_type": "bert", "hidden_size": "wide"}, "hidden_size.*expected int, got str"),
        ("hugging_face", None, {"model_type": "bert", "hidden_size": 30}, "not a multiple of the number of attention"),
        ("hugging_face", None, {"model_type": "bert", "hidden_act": "gellu"}, "refuses these options of bert.*gellu"),
        ("hugging_face", None, {"model_type": "roberta", "max_position_embeddings": 64}, "has positions for 63 tokens"),
        ("hugging_face", None, {"model_type": "fnet"}, "fnet gives a sequence other hidden states in a padded batch"),
        ("hugging_face", None, {"model_type": "ibert"}, "IBertForMaskedLM has no single token embedding"),
        ("hugging_face", None, {"model_type": "bert", "vocab_size": 20}, "it has 20 tokens, the tokenizer"),
    ],
)
def test_what_can_not_be_built_is_refused(
    vocabulary: Vocabulary, family: str, size: str | None, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        build_encoder(family, size, overrides, vocabulary, 64, seed=0)


def test_varlen_attention_and_attention_dropout_exclude_each_other(vocabulary: Vocabulary) -> None:
    encoder = build_encoder("bert", "tiny", {"attention_dropout": 0.1}, vocabulary, 64, seed=0)
    with pytest.raises(RecipeError, match=r"attention_dropout is 0\.1"):
        encoder.use_attention("varlen")


def test_varlen_attention_is_not_for_families_with_a_bias(vocabulary: Vocabulary) -> None:
    encoder = build_encoder("deberta", "tiny", {}, vocabulary, 64, seed=0)
    with pytest.raises(RecipeError, match="attention of Deberta has a bias"):
        encoder.use_attention("varlen")
