"""A recipe: everything that decides a run, as one strict YAML file.

Reading one reports every problem at once, each with the nearest known key, and fills in every default, also those of
the plug-ins. Nobody below `training/` sees more of it than its own section.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from maskwright.core.discovery import load_plug_in
from maskwright.core.errors import RecipeError
from maskwright.core.options import Options
from maskwright.core.strict_yaml import load_yaml
from maskwright.core.validation import problem_in_words
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.config import DataConfig
from maskwright.encoders.build import build_config, load_family
from maskwright.objectives.base import Objective
from maskwright.optim.optimizers import OptimizerConfig
from maskwright.optim.schedules import ScheduleConfig
from maskwright.tokenization.train_tokenizer import TokenizerConfig
from maskwright.training.recipe.sections import (
    BatchConfig,
    Budget,
    CheckpointConfig,
    EncoderSection,
    EnergyConfig,
    EngineConfig,
    Phase,
    ProbeConfig,
)

MOST_PROBLEMS = 4
"""Problems listed in one message; the rest is counted, so that the message stays readable."""


class Recipe(Options):
    """Everything that decides a run."""

    name: str = Field(description="name of the run in reports and the model card", min_length=1, max_length=100)
    description: str = Field(default="", description="one sentence for reports and the model card")
    seed: int = Field(default=1, ge=0, description="of initialisation, order and masks")
    data: DataConfig = Field(default_factory=DataConfig, description="which text")
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig, description="how text becomes tokens")
    encoder: EncoderSection = Field(default_factory=EncoderSection, description="which encoder")
    budget: Budget = Field(description="how long to train")
    phases: tuple[Phase, ...] = Field(default=(Phase(),), min_length=1, description="what to train, in order")
    batch: BatchConfig = Field(default_factory=BatchConfig, description="how much text makes one step")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="how weights are updated")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="the learning rate over the run")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="how the machine is used")
    checkpoints: CheckpointConfig = Field(default_factory=CheckpointConfig, description="when to save")
    probes: ProbeConfig = Field(default_factory=ProbeConfig, description="what is measured during the run")
    energy: EnergyConfig = Field(default_factory=EnergyConfig, description="what energy and CO2 are estimated from")

    @property
    def longest_sequence(self) -> int:
        """The longest sequence of any phase."""
        return max(phase.sequence_length for phase in self.phases)

    @property
    def fresh_phases(self) -> tuple[int, ...]:
        """The phases that begin with new weights; the first does anyway."""
        return tuple(index for index, phase in enumerate(self.phases) if index and phase.weights == "fresh")

    @property
    def fresh_schedules(self) -> tuple[int, ...]:
        """The phases with which the learning-rate schedule begins anew; with new weights it does."""
        return tuple(
            index for index, phase in enumerate(self.phases) if index and "fresh" in (phase.weights, phase.schedule)
        )

    @property
    def max_positions(self) -> int:
        """Positions the encoder is made for."""
        return self.encoder.max_positions or self.longest_sequence


def objective_of(phase: Phase) -> tuple[type[Objective], Any]:
    """Return a phase's objective class and its validated options.

    Raises:
        RecipeError: no such plug-in.
        pydantic.ValidationError: options it does not take.
    """
    options = dict(phase.objective)
    plug_in = load_plug_in("maskwright.objectives", str(options.pop("name", "")), Objective)
    return plug_in, plug_in.Config.model_validate(options)


def read_recipe(path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML.

    Args:
        path: the file.
        overrides: values that replace the file's, by dotted key such as "optimizer.learning_rate" or
            "phases.0.sequence_length".

    Raises:
        RecipeError: the file is missing or no recipe; the message lists the problems.
    """
    raw = load_yaml(path)
    for key, value in (overrides or {}).items():
        _set(raw, key, value)
    return parse_recipe(raw, str(path))


def parse_recipe(raw: dict[str, Any], origin: str) -> Recipe:
    """Validate a recipe, in its own sections and in the plug-ins it names, and fill in every default.

    Args:
        raw: the recipe as nested dictionaries.
        origin: where it is from, for messages.

    Raises:
        RecipeError: it has problems; the message lists them.
    """
    problems: list[str] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        problems += [problem_in_words(Recipe, item, "recipe") for item in error.errors()]
    phases = []
    raw_phases = raw.get("phases", [{}])
    for index, raw_phase in enumerate(raw_phases if isinstance(raw_phases, list) else []):
        try:
            phase = recipe.phases[index] if recipe else Phase(objective=raw_phase.get("objective", {"name": "mlm"}))
            _, options = objective_of(phase)
            name = phase.objective["name"]
            if index == 0 and options.needs_phase_before:
                problems.append(
                    f"phases.0.objective: {name} with these options builds on a phase before, there is none"
                )
            phases.append(phase.model_copy(update={"objective": {"name": name, **options.model_dump()}}))
        except RecipeError as error:
            advice = "; ".join(part for part in (error.expected, error.to_do) if part)
            problems.append(f"phases.{index}.objective: {error.got} ({advice})")
        except ValidationError as error:
            if isinstance(raw_phase, dict) and isinstance(raw_phase.get("objective", {}), dict):
                config = _config_of(raw_phase)
                for item in error.errors() if config else []:
                    prefix = f"phases.{index}.objective" + ("." if item["loc"] else "")
                    problems.append(prefix + problem_in_words(config, item, ""))
        except AttributeError:  # the phase is no dictionary: reported above
            continue
    if recipe is not None:
        problems += _contradictions(recipe) + _encoder_problems(recipe)
        problems += [] if problems else _misfits(recipe)
    if problems:
        shown = problems[:MOST_PROBLEMS]
        if len(problems) > MOST_PROBLEMS:
            shown[-1] = f"... and {len(problems) - MOST_PROBLEMS + 1} more problems"
        raise RecipeError(f"{origin} has {len(problems)} problem(s):\n  " + "\n  ".join(shown))
    assert recipe is not None
    return recipe.model_copy(update={"phases": tuple(phases)})


def _config_of(raw_phase: dict[str, Any]) -> type[BaseModel] | None:
    name = raw_phase.get("objective", {}).get("name", "")
    return load_plug_in("maskwright.objectives", name, Objective).Config if name else None


def _contradictions(recipe: Recipe) -> list[str]:
    """Return what each section allows but the sections together don't."""
    problems = []
    if recipe.max_positions < recipe.longest_sequence:
        problems.append(
            f"encoder.max_positions: {recipe.max_positions} is less than the longest sequence, "
            f"{recipe.longest_sequence}"
        )
    if recipe.batch.tokens % recipe.batch.micro_batch_tokens:
        problems.append(
            f"batch.tokens: {recipe.batch.tokens} is no multiple of micro_batch_tokens, "
            f"{recipe.batch.micro_batch_tokens}"
        )
    for index, phase in enumerate(recipe.phases):
        if recipe.batch.micro_batch_tokens % phase.sequence_length:
            problems.append(
                f"phases.{index}.sequence_length: {phase.sequence_length} does not divide micro_batch_tokens, "
                f"{recipe.batch.micro_batch_tokens}"
            )
    return problems


def _encoder_problems(recipe: Recipe) -> list[str]:
    """Return what the encoder's family does not take, now and not after hours of preparing text."""
    section, problems = recipe.encoder, []
    try:
        build_config(
            section.family, section.size, section.overrides, vocabulary_asked_for(recipe), recipe.max_positions
        )
        is_foreign = load_family(section.family).is_foreign
    except RecipeError as error:
        return [f"{error.got} ({error.expected})"]
    if is_foreign and recipe.engine.compile == "on":
        problems.append(f"engine.compile: on, but {section.family} runs uncompiled (leave auto, or off)")
    if is_foreign and recipe.engine.attention != "auto":
        problems.append(
            f"engine.attention: {recipe.engine.attention}, but {section.family} attends in its own way (leave auto)"
        )
    return problems


def _misfits(recipe: Recipe) -> list[str]:
    """Return which objectives don't go with the encoder or with the sequence length of their phase."""
    section, problems = recipe.encoder, []
    masks_at_input: set[bool] = set()
    config = build_config(
        section.family, section.size, section.overrides, vocabulary_asked_for(recipe), recipe.max_positions
    )
    for index, phase in enumerate(recipe.phases):
        plug_in, options = objective_of(phase)
        try:
            plug_in.require_fit(options, load_family(section.family), config, phase.sequence_length)
        except RecipeError as error:
            advice = "; ".join(part for part in (error.expected, error.to_do) if part)
            problems.append(f"phases.{index}.objective: {error.got} ({advice})")
        masks_at_input.add(plug_in.masks_at_input)
    if recipe.probes.stop_after_no_improvement and len(masks_at_input) > 1:
        problems.append(
            "probes.stop_after_no_improvement: some phases fill masks with a decoder and some without, so their "
            "held-out losses don't compare (leave it out)"
        )
    return problems


def vocabulary_asked_for(recipe: Recipe) -> Vocabulary:
    """Return a vocabulary of the size that the recipe asks for, to stand in until the tokenizer is there."""
    return Vocabulary(recipe.tokenizer.vocabulary_size, 0, 2, 3, 4, 1, (0, 1, 2, 3, 4), "")


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set one value in nested dictionaries and lists by its dotted key."""
    *parents, last = key.split(".")
    here: Any = raw
    try:
        for part in parents:
            here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
        if isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"--set {key}: there is no such place in the recipe", "a dotted key such as optimizer.learning_rate"
        ) from error
