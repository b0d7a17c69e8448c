"""What an optimizer must know of a parameter: modules declare it, and nothing goes by names.

A module may have two attributes, which hold for everything inside it:

- `is_block`: True for a layer of an encoder, whose matrices Muon may update;
- `learning_rate_factor`: multiplies the learning rate, such as 0.5 for a generator that learns beside the encoder; the
  factors of modules inside one another multiply.
"""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Role:
    """The role of one parameter.

    Attributes:
        is_block_matrix: whether it is a matrix, of exactly two dimensions, of a layer.
        decays: whether weight decay applies: to all but biases and norms.
        learning_rate_factor: of its learning rate.
    """

    is_block_matrix: bool
    decays: bool
    learning_rate_factor: float


def roles_of(root: nn.Module) -> dict[str, tuple[nn.Parameter, Role]]:
    """Return every parameter of a module with its role, once, under its first name, in the order of the names."""
    found: dict[str, tuple[nn.Parameter, Role]] = {}
    seen: set[nn.Parameter] = set()

    def visit(module: nn.Module, prefix: str, is_block: bool, factor: float) -> None:
        is_block = is_block or getattr(module, "is_block", False) is True
        factor *= getattr(module, "learning_rate_factor", 1.0)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                role = Role(is_block and parameter.ndim == 2, parameter.ndim >= 2, factor)
                found[prefix + name] = parameter, role
        for name, child in module.named_children():
            visit(child, f"{prefix}{name}.", is_block, factor)

    visit(root, "", False, 1.0)
    return found
