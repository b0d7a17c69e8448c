"""The vocabulary head of a model of transformers: hidden states at scored positions to logits, by the model's code."""

import copy
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from maskwright.encoders.families.hugging_face import HuggingFace
from maskwright.heads.token_head import TokenHead


class ForeignHead(TokenHead):
    """The vocabulary head of a model of transformers, whatever it is made of, called as `VocabularyHead` is.

    The model runs with a stand-in for its body that gives hidden states back as they are, so that the model's own
    code makes logits of them. `tests/parity/test_foreign_models.py` compares them with the whole model's.
    """

    def __init__(self, encoder: HuggingFace) -> None:
        """Take all of the encoder's model but the body. Weights are shared with it, and tied ones stay tied."""
        super().__init__()
        model = copy.copy(encoder.whole)
        model._modules = dict(model._modules)
        setattr(model, model.base_model_prefix, _StandIn(encoder.body))
        self.model = model

    def forward(self, x_MD: Tensor, embedding_VE: Tensor) -> Tensor:
        """Return logits [M, V].

        Args:
            x_MD: float [M, D], hidden states at the scored positions only.
            embedding_VE: the body's token embedding; unused, the model knows itself whether it is tied to it.
        """
        return self.model(inputs_embeds=x_MD[None]).logits[0]


class _HiddenStates(BaseModelOutput):
    """A body's answer; what some architectures add to it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class _StandIn(nn.Module):
    """Answers in place of a body: its output is what it was given; all else is asked of the body."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        # In a tuple, so that the body's weights are not the head's too.
        self._of = (body,)

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutput:
        """Return the input as it is."""
        return _HiddenStates(last_hidden_state=inputs_embeds)  # pyright: ignore[reportArgumentType]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_of"][0], name)
