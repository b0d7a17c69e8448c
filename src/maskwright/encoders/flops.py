"""What a training step costs: floating-point operations per token, a multiplication and an addition counting as two."""

from maskwright.encoders.config import EncoderConfig


def flops_per_token(
    config: EncoderConfig, sequence_length: float, scored_fraction: float, wanted_fraction: float = 1.0
) -> float:
    """Return the FLOPs of the forward and backward pass per token (three times the forward pass).

    `6 N_body + 6 D P sum(context of each layer) + 6 (V E + D E) f`, P the products of attention, 2 in most families,
    and `6 D E` where the embedding has a width of its own; matrix products with tokens only; norms, activations, the
    look-up of embeddings, and what is projected once a batch (relative positions) are left out.
    `tests/unit/encoders/test_flops.py` compares it with torch's counter.

    Args:
        config: of the encoder.
        sequence_length: how many tokens a token attends to in a global layer; for sequences of different lengths
            sum(length²) / sum(length).
        scored_fraction: share of the tokens that go through the vocabulary head, in [0, 1].
        wanted_fraction: share of the tokens whose hidden states are asked for; what only the others need of the last
            block is left out.
    """
    *windows, last = config.attention_windows()
    blocks = sum(block_flops_per_token(config, window, sequence_length) for window in windows)
    blocks += block_flops_per_token(config, last, sequence_length, wanted_fraction)
    embedding = 6 * config.embedding_matrix_parameters()
    return embedding + blocks + head_flops_per_token(config) * scored_fraction


def block_flops_per_token(
    config: EncoderConfig, window: float | None, sequence_length: float, wanted_fraction: float = 1.0
) -> float:
    """Return the FLOPs of one block, forward and backward, per token that goes in.

    Args:
        config: of the encoder.
        window: of the block's attention; None is the whole sequence.
        sequence_length: how many tokens a token attends to if there is no window.
        wanted_fraction: share of the tokens whose output is wanted; the others only are attended to.
    """
    before = config.query_key_value_parameters()
    after = config.block_matrix_parameters() - before
    context = min(window or sequence_length, sequence_length)
    attention = config.hidden_size * config.attention_products() * context
    return 6 * (before + attention + after * wanted_fraction)


def head_flops_per_token(config: EncoderConfig) -> float:
    """Return the FLOPs of the vocabulary head, forward and backward, per token that it sees."""
    return 6 * config.head_matrix_parameters()
