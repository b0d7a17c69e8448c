"""What a training step costs: floating-point operations per token, a multiplication and an addition counting as two."""

from maskwright.encoders.encoder import EncoderConfig


def flops_per_token(config: EncoderConfig, sequence_length: float, scored_fraction: float) -> float:
    """Return the FLOPs of the forward and backward pass per token (three times the forward pass).

    `6 N_body + 12 D sum(context of each layer) + 6 (V D + D D) f`: matrix products only; norms, activations and the
    look-up of embeddings are left out. `tests/unit/encoders/test_flops.py` compares it with torch's counter.

    Args:
        config: of the encoder.
        sequence_length: how many tokens a token attends to in a global layer; for sequences of different lengths
            sum(length²) / sum(length).
        scored_fraction: share of the tokens that go through the vocabulary head, in [0, 1].
    """
    body = config.num_layers * config.block_matrix_parameters()
    contexts = sum(min(window or sequence_length, sequence_length) for window in config.attention_windows())
    head = config.vocabulary_size * config.hidden_size + config.hidden_size**2
    return 6 * body + 12 * config.hidden_size * contexts + 6 * head * scored_fraction
