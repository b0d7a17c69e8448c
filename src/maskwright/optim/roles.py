"""What an optimizer must know of a parameter: modules declare it, and nothing goes by names.

A module may have these attributes, which hold for everything inside it; the innermost `role` counts:

- `role`: "block" for a layer of an encoder, whose matrices Muon may update; "embedding"; or "head", as is what nothing
  was declared for;
- `learning_rate_factor`: multiplies the learning rate, such as 0.5 for a generator that learns beside the encoder; the
  factors of modules inside one another multiply.

And one may have these for its own weight:

- `num_matrices`: how many matrices it holds, such as 3 for queries, keys and values; 1 by default;
- `num_turns`: how often their rows take turns: 1 where the matrices stand one above the other, the number of heads
  where each head has its queries, keys and values together.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

RoleName = Literal["block", "embedding", "head", "vector"]


@dataclass(frozen=True)
class Role:
    """The role of one parameter.

    Attributes:
        name: where it stands, or "vector" for one of fewer than two dimensions (biases and norms), wherever it stands.
        learning_rate_factor: of its learning rate.
        num_matrices: how many it holds.
        num_turns: how often their rows take turns.
    """

    name: RoleName
    learning_rate_factor: float = 1.0
    num_matrices: int = 1
    num_turns: int = 1

    @property
    def decays(self) -> bool:
        """Whether weight decay applies: to all but biases and norms."""
        return self.name != "vector"


def roles_of(root: nn.Module) -> dict[str, tuple[nn.Parameter, Role]]:
    """Return every parameter of a module with its role, once, under its first name, in the order of the names."""
    found: dict[str, tuple[nn.Parameter, Role]] = {}
    seen: set[nn.Parameter] = set()

    def visit(module: nn.Module, prefix: str, name_above: RoleName, factor: float) -> None:
        name: RoleName = getattr(module, "role", name_above)
        factor *= getattr(module, "learning_rate_factor", 1.0)
        for own_name, parameter in module.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            role = Role("vector", factor)
            if parameter.ndim >= 2:
                role = Role(name, factor, getattr(module, "num_matrices", 1), getattr(module, "num_turns", 1))
            found[prefix + own_name] = parameter, role
        for child_name, child in module.named_children():
            visit(child, f"{prefix}{child_name}.", name, factor)

    visit(root, "", "head", 1.0)
    return found
