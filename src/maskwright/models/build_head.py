"""Makes the vocabulary head that belongs to an encoder."""

from maskwright.encoders.encoder import Encoder
from maskwright.encoders.families.hugging_face import HuggingFace
from maskwright.heads.foreign import ForeignHead
from maskwright.heads.token_head import TokenHead
from maskwright.heads.vocabulary import VocabularyHead


def build_vocabulary_head(encoder: Encoder, seed: int) -> TokenHead:
    """Return the head of a new encoder: ours, or for a model of transformers its own.

    Args:
        encoder: new; a head of transformers shares its weights.
        seed: of the run.
    """
    return ForeignHead(encoder) if isinstance(encoder, HuggingFace) else VocabularyHead(encoder.config, seed)
