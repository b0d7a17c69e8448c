"""The shapes and types of the values that travel are those of the legend (checked by jaxtyping, in tests only)."""

import pytest
import torch
from beartype import beartype
from jaxtyping import Bool, Float, Int32, Int64, TypeCheckError, jaxtyped
from torch import Tensor

from maskwright.core.discovery import plug_in_names
from maskwright.encoders import build_encoder
from maskwright.encoders.build import FAMILIES, load_family
from maskwright.encoders.encoder import Encoder
from maskwright.heads.vocabulary import VocabularyHead


@jaxtyped(typechecker=beartype)
def check_packed(
    token_ids: Int64[Tensor, "T"],
    position_ids: Int64[Tensor, "T"],
    segment_ids: Int64[Tensor, "T"],
    word_starts: Bool[Tensor, "T"],
    sequence_index: Int32[Tensor, "T"],
    document_ids: Int64[Tensor, "S"],
    sequence_starts: Int32[Tensor, "S+1"],
) -> None:
    assert sequence_starts[-1] == len(token_ids)


@jaxtyped(typechecker=beartype)
def check_corrupted(
    clean_ids: Int64[Tensor, "T"],
    input_ids: Int64[Tensor, "T"],
    positions: Int64[Tensor, "M"],
    count: Int64[Tensor, ""],
) -> None:
    assert int(count) <= len(positions) <= len(clean_ids)


@jaxtyped(typechecker=beartype)
def check_predicted(
    x_TD: Float[Tensor, "T D"],
    embedding_VE: Float[Tensor, "V D"],
    x_MD: Float[Tensor, "M D"],
    logits_MV: Float[Tensor, "M V"],
) -> None:
    assert len(x_MD) <= len(x_TD)


def test_packed_batches(batch):
    layout = batch.layout
    fields = [batch.token_ids_T, batch.layout.position_ids_T, batch.layout.segment_ids_T, batch.marks["word"]]
    check_packed(
        *fields,
        sequence_index=layout.sequence_index_T,
        sequence_starts=layout.sequence_starts,
        document_ids=batch.document_ids_S,
    )
    with pytest.raises(TypeCheckError):
        check_packed(
            *fields,
            sequence_index=layout.sequence_index_T[1:],
            sequence_starts=layout.sequence_starts,
            document_ids=batch.document_ids_S,
        )


def test_corrupted_batches(objective, completed, batch, encoder):
    result = completed(batch)
    for question in result.questions.values():
        check_corrupted(batch.token_ids_T, result.input.token_ids_T, question.positions_M, question.count)
    for term in objective.loss(encoder, result):
        assert term.total.shape == term.count.shape == torch.Size([])


@pytest.mark.parametrize("family", [name for name in plug_in_names(FAMILIES) if not load_family(name).is_foreign])
def test_hidden_states_and_logits(family, batch, vocabulary):
    sizes = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "feed_forward_size": 24}
    encoder: Encoder = build_encoder(family, None, sizes, vocabulary, max_positions=32, seed=1)
    head = VocabularyHead(encoder.config)
    x_TD = encoder(batch.input)
    x_MD = x_TD[::3]
    check_predicted(x_TD, encoder.embedding_weight_VE, x_MD, head(x_MD, encoder.embedding_weight_VE))
