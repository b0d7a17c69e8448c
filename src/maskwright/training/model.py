"""Builds what a phase trains: encoder, vocabulary head and objective as one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from maskwright.core.errors import RecipeError
from maskwright.core.randomness import derived_seed, torch_generator
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
    """Everything that a phase trains.

    Attributes:
        encoder: exported in the end.
        vocabulary_head: likewise.
        objective: of the phase, with the heads of its own.
    """

    encoder: Encoder
    vocabulary_head: TokenHead
    objective: Objective

    def root(self) -> nn.ModuleDict:
        """Return the model as one module, for names, devices and checkpoints."""
        return nn.ModuleDict(
            {"encoder": self.encoder, "vocabulary_head": self.vocabulary_head, "objective": self.objective}
        )

    def freeze(self, parts: Sequence[str | int]) -> None:
        """Let everything learn but some parts, as `Phase.freeze` names them.

        Raises:
            RecipeError: nothing would learn, or there are fewer blocks.
        """
        frozen: set[nn.Parameter] = set()
        for part in parts:
            if isinstance(part, int):
                layers = self.encoder.layers
                if part > len(layers):
                    raise RecipeError(f"freeze: {part} blocks, the encoder has {len(layers)}", "no more than it has")
                for block in layers[:part]:
                    frozen.update(block.parameters())
            elif part == "token_embedding":
                weight = self.encoder.embedding_weight_VE
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

    def exported_heads(self) -> Mapping[str, nn.Module]:
        """Return the heads that an export has, by kind."""
        return self.objective.outcome(self.encoder).heads

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return every parameter once, under its first name."""
        return list(self.root().named_parameters())

    def num_parameters(self) -> int:
        """Return how many numbers are trained."""
        return sum(parameter.numel() for _, parameter in self.named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Return every parameter and persistent buffer once, by name; what a checkpoint holds."""
        root = self.root()
        persistent = root.state_dict(keep_vars=True)
        unique = {name for name, _ in [*root.named_parameters(), *root.named_buffers()]}
        return {name: tensor for name, tensor in persistent.items() if name in unique}


def build_model(
    recipe: Recipe, vocabulary: Vocabulary, phase: int = 0, around: tuple[Encoder, TokenHead] | None = None
) -> Model:
    """Build the model of a phase, on the CPU, with weights that are a function of the recipe's seed and the phase.

    Args:
        recipe: validated.
        vocabulary: of the prepared corpus.
        phase: its index.
        around: encoder and head to build it around, instead of fresh ones.
    """
    if around is None:
        encoder, vocabulary_head = build_encoder_and_head(recipe, vocabulary, phase)
    else:
        encoder, vocabulary_head = around
        require_vocabulary(encoder.config, vocabulary)
    chosen = recipe.phases[phase].objective
    objective = chosen.plug_in(chosen.options, encoder, vocabulary, vocabulary_head)
    objective.initialize(torch_generator(recipe.seed, "objective", phase))
    return Model(encoder, vocabulary_head, objective)


def build_models(
    recipe: Recipe, vocabulary: Vocabulary, around: tuple[Encoder, TokenHead] | None = None
) -> list[Model]:
    """Build the models of all phases, to plan with; phases whose encoders are alike share one.

    Args:
        recipe, vocabulary: see `build_model`.
        around: of the first phase.
    """
    models = [build_model(recipe, vocabulary, 0, around)]
    for phase in range(1, len(recipe.phases)):
        before = models[-1]
        shared = None if recipe.phases[phase].encoder else (before.encoder, before.vocabulary_head)
        models.append(build_model(recipe, vocabulary, phase, shared))
    return models


def build_encoder_and_head(recipe: Recipe, vocabulary: Vocabulary, phase: int) -> tuple[Encoder, TokenHead]:
    """Build the encoder of a phase and its vocabulary head, on the CPU, with fresh weights."""
    seed = derived_seed(recipe.seed, "phase", phase) if phase else recipe.seed
    section = recipe.encoder_of(phase)
    encoder = build_encoder(section.family, section.size, section.overrides, vocabulary, recipe.max_positions, seed)
    return encoder, build_vocabulary_head(encoder, seed)
