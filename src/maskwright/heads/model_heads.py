"""What every term of a loss may predict with: the model's vocabulary head over the encoder's token embedding."""

from torch import Tensor

from maskwright.core.errors import RecipeError
from maskwright.heads.decoder import Decoder
from maskwright.heads.token_head import TokenHead
from maskwright.heads.vocabulary import VocabularyHead


class ModelHeads:
    """The heads that belong to the model and not to one term, for one pass over a batch.

    Attributes:
        vocabulary: predicts tokens; it is exported with the encoder.
        embedding_VE: float [V, E], the encoder's token embedding, to which its decoder is tied.
    """

    def __init__(self, vocabulary: TokenHead, embedding_VE: Tensor) -> None:
        """Join the two; neither is copied."""
        self.vocabulary, self.embedding_VE = vocabulary, embedding_VE
        self._read: Tensor | None = None
        self._logits: Tensor | None = None

    @property
    def decoder(self) -> Decoder:
        """The decoder of the vocabulary head, for a term with a transform of its own.

        Raises:
            RecipeError: the head is one of transformers' and has none that can be had apart.
        """
        if not isinstance(self.vocabulary, VocabularyHead):
            raise RecipeError(
                f"a term shares the vocabulary head's decoder, which {type(self.vocabulary).__name__} does not give",
                "an encoder of one of our own families",
            )
        return self.vocabulary.decoder

    def logits(self, x_MD: Tensor) -> Tensor:
        """Return the vocabulary head's logits of some hidden states, float32 [M, V]; kept for the terms that follow."""
        if self._logits is not None and self._read is x_MD:
            return self._logits
        logits_MV = self.vocabulary(x_MD, self.embedding_VE).float()
        self._read, self._logits = x_MD, logits_MV
        return logits_MV

    def has_logits(self, x_MD: Tensor) -> bool:
        """Return whether an earlier term made the logits of these hidden states as a whole."""
        return self._logits is not None and self._read is x_MD
