"""Hidden states at some places are those of the whole forward pass, in every family that runs in pieces."""

import pytest
import torch

from maskwright.core.batches import PackedBatch
from maskwright.core.discovery import plug_in_names
from maskwright.corpus.corpus import Corpus
from maskwright.encoders import build_encoder

FAMILIES = [name for name in plug_in_names("maskwright.encoders.families") if name != "hugging_face"]
SHAPE = {"num_layers": 3, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
POSITIONS = torch.tensor([5, 200, 5, 0, 17])


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_give_what_the_whole_gives(family: str, batch: PackedBatch, corpus: Corpus):
    for options in [{}, {"norm_position": "pre"}] if family == "bert" else [{}]:
        encoder = build_encoder(family, None, SHAPE | options, corpus.vocabulary, max_positions=64, seed=1).eval()
        with torch.no_grad():
            whole_TD, some_MD = encoder(batch.input), encoder(batch.input, POSITIONS)
        torch.testing.assert_close(some_MD, whole_TD[POSITIONS], rtol=1e-5, atol=1e-6)


def test_what_is_not_wanted_is_not_computed(batch: PackedBatch, corpus: Corpus):
    encoder = build_encoder("modernbert", None, SHAPE, corpus.vocabulary, max_positions=64, seed=1)
    sizes: list[int] = []
    for block in encoder.blocks:
        block.feed_forward_out.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    encoder(batch.input, positions_M=POSITIONS)
    assert sizes == [len(batch.token_ids_T), len(batch.token_ids_T), len(POSITIONS)]
