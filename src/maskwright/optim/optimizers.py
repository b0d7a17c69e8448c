"""AdamW, or Muon for the blocks' matrices with AdamW for the rest, behind one small interface."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.options import Options
from maskwright.core.ranks import Ranks
from maskwright.optim.muon import Muon
from maskwright.optim.roles import Role, roles_of

FACTOR = "learning_rate_factor"
"""Key of torch's parameter groups for what multiplies the learning rate."""


class LearningRateFactors(Options):
    """What multiplies the learning rate, by the role of a parameter."""

    block: float = Field(default=1.0, gt=0, description="of the layers' matrices")
    embedding: float = Field(default=1.0, gt=0, description="of the embeddings")
    head: float = Field(default=1.0, gt=0, description="of the heads' matrices; a tied decoder is an embedding")
    vector: float = Field(default=1.0, gt=0, description="of biases and norms")


class OptimizerConfig(Options):
    """How weights are updated."""

    name: Literal["adamw", "muon"] = Field(
        default="adamw", description="adamw, or muon: Muon for the matrices of the blocks and AdamW for everything else"
    )
    learning_rate: float = Field(default=5e-4, gt=0, description="peak learning rate")
    learning_rate_factors: LearningRateFactors = Field(
        default_factory=LearningRateFactors, description="what multiplies it by role"
    )
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled; not applied to biases and norms")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's average of gradients")
    beta2: float = Field(default=0.98, ge=0, lt=1, description="AdamW's average of squared gradients; 0.98 as RoBERTa")
    epsilon: float = Field(default=1e-6, gt=0, description="AdamW's; 1e-6 as BERT and RoBERTa")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Muon's")
    clip_norm: float = Field(
        default=1.0, ge=0, description="gradients are scaled down to this global norm; 0 leaves them as they are"
    )


def require_roles(root: nn.Module, config: OptimizerConfig) -> None:
    """Raise a `RecipeError` if the recipe has a learning rate for a role that no parameter of a model has."""
    found = {role.name for _, role in roles_of(root).values()}
    for name, factor in config.learning_rate_factors:
        if factor != 1 and name not in found:
            raise RecipeError(
                f"optimizer.learning_rate_factors.{name} is {factor:g}, and no parameter has that role",
                f"roles that this model has: {', '.join(sorted(found))}",
            )


class Optimizers:
    """The optimizers of a run: one or two of torch's, with state that is named by parameter."""

    def __init__(
        self,
        root: nn.Module,
        config: OptimizerConfig,
        dtype: torch.dtype = torch.float32,
        ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    ) -> None:
        """Sort the parameters into groups by their roles.

        Matrices decay and vectors (biases, norms) don't. With Muon, the blocks' matrices of exactly two dimensions go
        to Muon; embeddings, heads and all others stay with AdamW. The sizes of their updates are such that one learning
        rate serves both.

        Args:
            root: holds every parameter that any phase trains; its modules declare roles (`roles.py`).
            config: validated options.
            dtype: of Muon's matrix products.
            ranks: all processes of the run, whose gradients are the same; Muon's work is shared out.
        """
        self._clip_norm = config.clip_norm
        roles = roles_of(root)
        self._names: dict[nn.Parameter, str] = {parameter: name for name, (parameter, _) in roles.items()}
        for_muon: dict[Role, list[nn.Parameter]] = {}
        for_adamw: dict[Role, list[nn.Parameter]] = {}
        for parameter, role in roles.values():
            is_for_muon = config.name == "muon" and role.name == "block" and parameter.ndim == 2
            # AdamW takes a weight as it is, however many matrices it holds.
            role, groups = (role, for_muon) if is_for_muon else (Role(role.name, role.learning_rate_factor), for_adamw)
            groups.setdefault(role, []).append(parameter)

        def group(role: Role, parameters: list[nn.Parameter]) -> dict[str, Any]:
            factor = role.learning_rate_factor * getattr(config.learning_rate_factors, role.name)
            decay = config.weight_decay if role.decays else 0.0
            return {"params": parameters, "weight_decay": decay, FACTOR: factor}

        self._optimizers: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(
                [group(role, parameters) for role, parameters in for_adamw.items()],
                lr=config.learning_rate,
                betas=(config.beta1, config.beta2),
                eps=config.epsilon,
                fused=True,
            )
        }
        if for_muon:
            stacks = (
                group(role, parameters) | {"num_matrices": role.num_matrices, "num_turns": role.num_turns}
                for role, parameters in for_muon.items()
            )
            rates = config.learning_rate, config.weight_decay, config.momentum
            self._optimizers["muon"] = Muon(stacks, *rates, dtype, ranks)

    def clip(self, clip_norm: float | None = None) -> Tensor:
        """Clip the gradients and return their global norm before that (a scalar tensor, possibly not finite).

        Args:
            clip_norm: that of the configuration by default; 0 leaves the gradients as they are.
        """
        limit = (self._clip_norm if clip_norm is None else clip_norm) or float("inf")
        return nn.utils.clip_grad_norm_(list(self._names), limit)

    def step(self, learning_rate: float) -> None:
        """Update the weights that have gradients, and drop these.

        Args:
            learning_rate: of modules whose factor is 1.
        """
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group[FACTOR]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def drop_gradients(self) -> None:
        """Forget the gradients without an update."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)

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

    def take_over(self, before: "Optimizers", names: Mapping[str, str]) -> None:
        """Go on with the state of other optimizers.

        Args:
            before: the others, of the same configuration.
            names: by the name of a parameter here, its name there; tensors that are no parameters are left out.
        """
        theirs = {name: parameter for parameter, name in before._names.items()}
        for parameter, name in self._names.items():
            if name not in names or names[name] not in theirs:
                continue
            for kind, optimizer in before._optimizers.items():
                state = optimizer.state.get(theirs[names[name]])
                if state and kind in self._optimizers:
                    self._optimizers[kind].state[parameter].update(state)
