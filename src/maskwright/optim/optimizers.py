"""AdamW, or Muon for the blocks' matrices with AdamW for the rest, behind one small interface."""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from maskwright.core.errors import CheckpointError
from maskwright.core.options import Options


class OptimizerConfig(Options):
    """How weights are updated."""

    name: Literal["adamw", "muon"] = Field(
        default="adamw", description="adamw, or muon: Muon for the matrices of the blocks and AdamW for everything else"
    )
    learning_rate: float = Field(default=5e-4, gt=0, description="peak learning rate")
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled; not applied to biases and norms")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's average of gradients")
    beta2: float = Field(default=0.98, ge=0, lt=1, description="AdamW's average of squared gradients; 0.98 as RoBERTa")
    epsilon: float = Field(default=1e-6, gt=0, description="AdamW's; 1e-6 as BERT and RoBERTa")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Muon's")
    clip_norm: float = Field(
        default=1.0, ge=0, description="gradients are scaled down to this global norm; 0 leaves them as they are"
    )


class Optimizers:
    """The optimizers of a run: one or two of torch's, with state that is named by parameter."""

    def __init__(self, named_parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig) -> None:
        """Sort the parameters into groups.

        Matrices decay and vectors (biases, norms) don't. With Muon, matrices inside the blocks (names containing
        "blocks.") go to Muon with the learning rate matched to AdamW's update size (Liu et al. 2025, arXiv:2502.16982),
        so one learning rate serves both; embeddings and heads stay with AdamW.

        Args:
            named_parameters: every parameter that any phase trains, each once.
            config: validated options.
        """
        self._peak = config.learning_rate
        self._clip_norm = config.clip_norm
        self._names: dict[nn.Parameter, str] = {parameter: name for name, parameter in named_parameters}
        matrices: list[nn.Parameter] = []
        vectors: list[nn.Parameter] = []
        hidden_matrices: list[nn.Parameter] = []
        for parameter, name in self._names.items():
            if parameter.ndim < 2:
                vectors.append(parameter)
            elif config.name == "muon" and "blocks." in name:
                hidden_matrices.append(parameter)
            else:
                matrices.append(parameter)
        self._optimizers: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(
                [
                    {"params": matrices, "weight_decay": config.weight_decay},
                    {"params": vectors, "weight_decay": 0.0},
                ],
                lr=config.learning_rate,
                betas=(config.beta1, config.beta2),
                eps=config.epsilon,
                fused=True,
            )
        }
        if hidden_matrices:
            self._optimizers["muon"] = torch.optim.Muon(
                hidden_matrices,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                adjust_lr_fn="match_rms_adamw",
            )

    def clip(self) -> Tensor:
        """Clip the gradients and return their global norm before that (a scalar tensor, possibly not finite)."""
        limit = self._clip_norm or float("inf")
        return nn.utils.clip_grad_norm_(list(self._names), limit)

    def step(self, learning_rate_factor: float) -> float:
        """Update the weights and drop the gradients; return the learning rate used."""
        learning_rate = self._peak * learning_rate_factor
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return learning_rate

    def drop_gradients(self) -> None:
        """Forget the gradients without an update."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Drop the state of all parameters, as if no update had been made."""
        for optimizer in self._optimizers.values():
            optimizer.state.clear()

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, such as "adamw/encoder.blocks.0.wqkv.weight/exp_avg"."""
        return {
            f"{kind}/{name}/{key}": value
            for kind, optimizer in self._optimizers.items()
            for parameter, name in self._names.items()
            if parameter in optimizer.state
            for key, value in optimizer.state[parameter].items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state_tensors` returned.

        Raises:
            CheckpointError: the state belongs to other parameters or another optimizer.
        """
        parameters = {name: parameter for parameter, name in self._names.items()}
        for path, value in tensors.items():
            kind, name, key = path.split("/")
            if kind not in self._optimizers or name not in parameters:
                raise CheckpointError(
                    f"the checkpoint has optimizer state {path!r}",
                    "state of this recipe's optimizer and parameters",
                    "resume with the recipe the run was started with",
                )
            parameter = parameters[name]
            self._optimizers[kind].state[parameter][key] = value.to(parameter.device)
