"""Builds what a recipe names: encoder, heads and objectives as one model, and the streams of batches of its phases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from maskwright.core.errors import RecipeError
from maskwright.core.randomness import torch_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.encoders.build import require_vocabulary
from maskwright.encoders.encoder import Encoder
from maskwright.heads.token_head import TokenHead
from maskwright.models.build_head import build_vocabulary_head
from maskwright.objectives.base import Objective
from maskwright.training.recipe.recipe import Recipe


@dataclass
class Model:
    """Everything that is trained.

    Attributes:
        encoder: shared by all phases.
        vocabulary_head: likewise; exported with the encoder.
        objectives: one a phase; phases with the same objective and options share one.
    """

    encoder: Encoder
    vocabulary_head: TokenHead
    objectives: list[Objective]

    def root(self) -> nn.ModuleDict:
        """Return the model as one module, for names, devices and checkpoints."""
        parts: dict[str, nn.Module] = {"encoder": self.encoder, "vocabulary_head": self.vocabulary_head}
        parts |= {f"objective_{index}": objective for index, objective in enumerate(dict.fromkeys(self.objectives))}
        return nn.ModuleDict(parts)

    def freeze(self, parts: Sequence[str | int]) -> None:
        """Let everything learn but some parts, as `Phase.freeze` names them.

        Raises:
            RecipeError: nothing would learn, or there are fewer blocks.
        """
        frozen: set[nn.Parameter] = set()
        for part in parts:
            if isinstance(part, int):
                if part > len(self.encoder.blocks):
                    raise RecipeError(
                        f"freeze: {part} blocks, the encoder has {len(self.encoder.blocks)}", "no more than it has"
                    )
                for block in list(self.encoder.blocks)[:part]:
                    frozen.update(block.parameters())
            elif part == "token_embedding":
                weight = self.encoder.embedding_weight_VD
                frozen.update(parameter for parameter in self.encoder.parameters() if parameter is weight)
            else:
                frozen.update({"encoder": self.encoder, "vocabulary_head": self.vocabulary_head}[part].parameters())
        parameters = [parameter for _, parameter in self.named_parameters()]
        if all(parameter in frozen for parameter in parameters):
            raise RecipeError("freeze leaves nothing that learns", "fewer parts")
        for parameter in parameters:
            parameter.requires_grad_(parameter not in frozen)

    def use_attention(self, backend_name: str) -> None:
        """Choose the attention backend of every encoder: the main one and those that learn beside it."""
        for part in self.root().modules():
            if isinstance(part, Encoder):
                part.use_attention(backend_name)

    def exported_heads(self, phase: int) -> Mapping[str, nn.Module]:
        """Return the heads that an export has after a step of a phase, by kind."""
        return self.objectives[phase].outcome(self.encoder).heads

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return every parameter once, under its first name."""
        return list(self.root().named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Return every parameter and persistent buffer once, by name; what a checkpoint holds."""
        root = self.root()
        persistent = root.state_dict(keep_vars=True)
        unique = {name for name, _ in [*root.named_parameters(), *root.named_buffers()]}
        return {name: tensor for name, tensor in persistent.items() if name in unique}


def build_model(recipe: Recipe, vocabulary: Vocabulary, start_from: tuple[Encoder, TokenHead] | None) -> Model:
    """Build the model of a recipe, on the CPU, initialised from the recipe's seed.

    Args:
        recipe: validated.
        vocabulary: of the prepared corpus.
        start_from: encoder and head to continue from, instead of fresh ones.
    """
    if start_from is None:
        encoder, vocabulary_head = build_encoder_and_head(recipe, vocabulary, recipe.seed)
    else:
        encoder, vocabulary_head = start_from
        require_vocabulary(encoder.config, vocabulary)
    objectives: list[Objective] = []
    for index, phase in enumerate(recipe.phases):
        twins = [other for other in range(index) if recipe.phases[other].objective == phase.objective]
        if twins:
            objectives.append(objectives[twins[0]])
        else:
            chosen = phase.objective
            objective = chosen.plug_in(chosen.options, encoder, vocabulary, vocabulary_head)
            objective.initialize(torch_generator(recipe.seed, "objective", index))
            objectives.append(objective)
    return Model(encoder, vocabulary_head, objectives)


def build_encoder_and_head(recipe: Recipe, vocabulary: Vocabulary, seed: int) -> tuple[Encoder, TokenHead]:
    """Build a new encoder and its vocabulary head, on the CPU, with weights that are a function of `seed`."""
    section = recipe.encoder
    encoder = build_encoder(section.family, section.size, section.overrides, vocabulary, recipe.max_positions, seed)
    return encoder, build_vocabulary_head(encoder, seed)
