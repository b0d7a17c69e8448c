"""Texts become what the model's own tokenizer would make of them."""

import numpy as np
import pytest

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.fine_tuning.encoding import TextEncoder

PAIRS = [
    ("The court dismissed the appeal.", "She closed the door."),
    (
        "A dog slept.",
        "Every morning the baker opened his shop before sunrise, and nobody knew why the bridge was old.",
    ),
]


@pytest.mark.parametrize("max_length", [64, 14])
def test_pairs_are_what_the_tokenizer_itself_makes(any_tokenizer, max_length):
    expected = any_tokenizer(
        [one for one, _ in PAIRS], [other for _, other in PAIRS], truncation="longest_first", max_length=max_length
    )
    sequences = TextEncoder(any_tokenizer, max_length).encode(PAIRS)
    assert sequences.token_ids.tolist() == [one for ids in expected["input_ids"] for one in ids]
    assert sequences.sizes.tolist() == [len(ids) for ids in expected["input_ids"]]
    whole = any_tokenizer([one for one, _ in PAIRS], [other for _, other in PAIRS])["input_ids"]
    assert sequences.num_cut == sum(len(ids) > max_length for ids in whole)


def test_token_types_only_where_the_tokenizer_gives_them_to_its_model(tokenizer):
    assert not TextEncoder(tokenizer, 64).encode(PAIRS).segment_ids.any()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    try:
        expected = tokenizer(*map(list, zip(*PAIRS, strict=True)))["token_type_ids"]
        assert TextEncoder(tokenizer, 64).encode(PAIRS).segment_ids.tolist() == [one for ids in expected for one in ids]
    finally:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]


def test_a_text_that_spells_a_special_token_is_text(any_tokenizer):
    sequences = TextEncoder(any_tokenizer, 64).encode([("the [MASK] slept [SEP] here",)])
    specials = np.isin(sequences.token_ids, [any_tokenizer.mask_token_id, any_tokenizer.sep_token_id])
    assert specials.sum() == 1
    assert specials[-1]


def test_a_text_without_any_token_is_refused(tokenizer):
    encoder = TextEncoder(tokenizer, 64)
    encodings = encoder._tokenizer.encode_batch(["dog", ""], add_special_tokens=False)
    with pytest.raises(EvaluationError, match="text 2 of 2 has no token"):
        encoder.sequences(encodings, 0)


def test_questions_are_shortened_at_a_token(tokenizer):
    encoder = TextEncoder(tokenizer, 64)
    text = "Nobody knew why the old bridge had been painted green."
    assert encoder.shorten_texts([text, "A dog"], 3) == ["Nobody knew why", "A dog"]
