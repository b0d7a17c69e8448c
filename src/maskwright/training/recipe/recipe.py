"""A recipe: everything that decides a run, as one strict YAML file.

Reading one reports every problem at once, each with the nearest known key, and fills in every default, also those of
the plug-ins. Nobody below `training/` sees more of it than its own section.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from maskwright.core.errors import RecipeError
from maskwright.core.options import Options
from maskwright.core.strict_yaml import load_yaml
from maskwright.core.validation import problems_in_words
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.config import DataConfig
from maskwright.corpus.marks import MARKS
from maskwright.encoders.build import build_config, load_family
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.growth import require_growth
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

    def peak_learning_rate(self, phase: int) -> float:
        """Return the peak learning rate of a phase."""
        own = self.phases[phase].learning_rate
        return self.optimizer.learning_rate if own is None else own

    @property
    def batches(self) -> tuple[BatchConfig, ...]:
        """How much text makes a step of each phase."""
        return tuple(phase.batch or self.batch for phase in self.phases)

    def encoder_of(self, phase: int) -> EncoderSection:
        """Return the encoder of a phase: the recipe's, with what it and the phases before it change."""
        overrides = dict(self.encoder.overrides)
        for each in self.phases[: phase + 1]:
            overrides |= each.encoder.overrides if each.encoder else {}
        return self.encoder.model_copy(update={"overrides": overrides})

    def objective_number(self, phase: int) -> int:
        """Return the number of a phase's objective among those that differ, as version 0.1 counted them."""
        return list(dict.fromkeys(each.objective for each in self.phases)).index(self.phases[phase].objective)

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
    def measured_anew(self) -> tuple[int, ...]:
        """The phases whose held-out losses don't compare with those before: other terms, rows, shapes or weights."""
        return tuple(
            index
            for index, (before, phase) in enumerate(itertools.pairwise(self.phases), start=1)
            if phase.weights == "fresh"
            or phase.encoder is not None
            or (before.objective, before.sequence_length, before.sampler)
            != (phase.objective, phase.sequence_length, phase.sampler)
        )

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that the corpus needs."""
        needed = {mark for phase in self.phases for mark in phase.sampler.plug_in.marks}
        return tuple(mark for mark in MARKS if mark in needed)

    @property
    def max_positions(self) -> int:
        """Positions the encoder is made for."""
        return self.encoder.max_positions or self.longest_sequence


def read_recipe(path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML.

    Args:
        path: the file.
        overrides: values that replace the file's, by dotted key such as "optimizer.learning_rate" or
            "phases.0.sequence_length".

    Raises:
        RecipeError: the file is missing or no recipe; the message lists the problems.
    """
    return parse_recipe(with_overrides(load_yaml(path), overrides or {}), str(path))


def with_overrides(raw: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as nested dictionaries with some values replaced; `raw` itself is changed.

    Args:
        raw: the recipe.
        overrides: by dotted key such as "optimizer.learning_rate" or "phases.0.sequence_length".

    Raises:
        RecipeError: a key names nothing in the recipe.
    """
    for key, value in overrides.items():
        _set(raw, key, value)
    return raw


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
        problems += problems_in_words(Recipe, error, "recipe")
    if recipe is not None and recipe.phases[0].objective.options.needs_phase_before:
        name = recipe.phases[0].objective.name
        problems.append(f"phases.0.objective: {name} with these options builds on a phase before, there is none")
    if recipe is not None:
        problems += _contradictions(recipe) + _encoder_problems(recipe)
        problems += [] if problems else _misfits(recipe)
    if problems:
        shown = problems[:MOST_PROBLEMS]
        if len(problems) > MOST_PROBLEMS:
            shown[-1] = f"... and {len(problems) - MOST_PROBLEMS + 1} more problems"
        raise RecipeError(f"{origin} has {len(problems)} problem(s):\n  " + "\n  ".join(shown))
    assert recipe is not None
    return recipe


def _contradictions(recipe: Recipe) -> list[str]:
    """Return what each section allows but the sections together don't."""
    problems = []
    if recipe.max_positions < recipe.longest_sequence:
        problems.append(
            f"encoder.max_positions: {recipe.max_positions} is less than the longest sequence, "
            f"{recipe.longest_sequence}"
        )
    for index, phase in enumerate(recipe.phases):
        where = f"phases.{index}."
        problems += _batch_problems(recipe.batches[index], phase, where)
        if "encoder" in phase.freeze and phase.weights == "fresh":
            problems.append(f"{where}freeze: encoder, but its weights are fresh ones that never learned anything")
        if not index and phase.encoder is not None:
            problems.append(f"{where}encoder: nothing comes before the first phase (use the section encoder)")
        if not index and phase.keep is not None:
            problems.append(f"{where}keep: nothing comes before the first phase that it could keep")
    return list(dict.fromkeys(problems))  # phases that share a batch share its problem


def _batch_problems(batch: BatchConfig, phase: Phase, where: str) -> list[str]:
    """Return what does not go with the batch of a phase."""
    problems, key = [], f"{where if phase.batch else ''}batch"
    if batch.tokens % batch.micro_batch_tokens:
        problems.append(
            f"{key}.tokens: {batch.tokens} is no multiple of micro_batch_tokens, {batch.micro_batch_tokens}"
        )
    if batch.micro_batch_tokens % phase.sequence_length:
        problems.append(
            f"{where}sequence_length: {phase.sequence_length} does not divide micro_batch_tokens, "
            f"{batch.micro_batch_tokens}"
        )
    return problems


def _encoder_problems(recipe: Recipe) -> list[str]:
    """Return what the encoder's family does not take, now and not after hours of preparing text."""
    section, problems = recipe.encoder, []
    where = ""
    try:
        encoder_class, before = load_family(section.family), encoder_config(recipe, 0)
        for index, phase in enumerate(recipe.phases[1:], start=1):
            if phase.encoder is not None:
                where = f"phases.{index}."
                now = encoder_config(recipe, index)
                if phase.weights == "continue":
                    require_growth(encoder_class, before, now, phase.encoder.new_blocks)
                before = now
    except RecipeError as error:
        return [f"{where}{error.got} ({error.expected})"]
    is_foreign = encoder_class.is_foreign
    if is_foreign and recipe.engine.compile == "on":
        problems.append(f"engine.compile: on, but {section.family} runs uncompiled (leave auto, or off)")
    if is_foreign and recipe.engine.attention != "auto":
        problems.append(
            f"engine.attention: {recipe.engine.attention}, but {section.family} attends in its own way (leave auto)"
        )
    return problems


def _misfits(recipe: Recipe) -> list[str]:
    """Return which objectives don't go with the encoder or with the sequence length of their phase."""
    problems, family = [], load_family(recipe.encoder.family)
    for index, phase in enumerate(recipe.phases):
        plug_in, options = phase.objective.plug_in, phase.objective.options
        try:
            plug_in.require_fit(options, family, encoder_config(recipe, index), phase.sequence_length)
        except RecipeError as error:
            advice = "; ".join(part for part in (error.expected, error.to_do) if part)
            problems.append(f"phases.{index}.objective: {error.got} ({advice})")
        terms = plug_in.all_terms(options)
        if any(term.options.needs_documents for term in terms) and not phase.sampler.plug_in.is_of_documents:
            problems.append(
                f"phases.{index}.sampler: {phase.sampler.label} makes sequences of several pieces, and the objective's "
                "targets are kept by the position in a document (set targets: online, or take the sampler documents)"
            )
        if any(term.plug_in.needs_labels for term in terms) and not phase.sampler.plug_in.gives_labels:
            problems.append(
                f"phases.{index}.sampler: {phase.sampler.label} gives no labels, which the objective asks for "
                "(take a sampler that does, such as pairs)"
            )
    return problems


def encoder_config(recipe: Recipe, phase: int = 0, vocabulary: Vocabulary | None = None) -> EncoderConfig:
    """Return the options of a phase's encoder.

    Args:
        recipe: gives family, size and what the phases change.
        phase: its index.
        vocabulary: of the corpus; default: one of the size that the recipe asks for.

    Raises:
        RecipeError: they are out of range.
    """
    section, vocabulary = recipe.encoder_of(phase), vocabulary or vocabulary_asked_for(recipe)
    return build_config(section.family, section.size, section.overrides, vocabulary, recipe.max_positions)


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
            f"--set {key}: the recipe has no such key", "a dotted key such as optimizer.learning_rate"
        ) from error
