"""How a model is fine-tuned: the section `training` of a task, and its presets.

What stands in the task's YAML file or after --set wins over the preset, the preset over the defaults here.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from maskwright.core.errors import suggest_nearest
from maskwright.core.options import Options
from maskwright.core.strict_yaml import load_yaml, merge_mappings

DEFAULT = "default"
"""The preset that changes nothing."""

RATE_LISTS = {"learning_rate", "rate_factors"}
"""The two ways of saying which learning rates a search tries."""

SMALL_WIDTH, SMALL_RATE = 256, 1e-3
"""Up to this width, this is the default learning rate; above, it falls with the square of the width: 1.1e-4 at 768."""


class Lora(Options):
    """Low-rank adaptation; the defaults are those of the BabyLM 2024 pipeline."""

    rank: int = Field(default=8, ge=1, description="rank of the updates, r")
    alpha: float = Field(default=16, gt=0, description="updates are scaled by alpha / rank")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout of what enters the updates")


class GridSearch(Options):
    """A grid. The best combination on held-back text is then trained on all of the text. Empty lists: no search."""

    learning_rate: list[float] = Field(default=[], description="learning rates to try")
    rate_factors: list[float] = Field(
        default=[], description="learning rates to try, as multiples of `training.learning_rate` or its default"
    )
    batch_size: list[int] = Field(default=[], description="batch sizes to try")
    epochs: list[int] = Field(default=[], description="numbers of epochs to try")


class FineTuning(Options):
    """How a model is fine-tuned. The defaults are meant for small encoders; docs/fine_tuning.md says why."""

    preset: str = Field(
        default=DEFAULT, description="values for what is not given here: default, bert, babylm2023, ..."
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="peak learning rate; null: 1e-3 for encoders up to 256 wide, and with the square of the width less",
    )
    batch_size: int = Field(default=32, ge=1, description="examples in a step")
    epochs: int = Field(default=4, ge=1, description="how often every example is seen")
    max_length: int = Field(default=128, ge=8, description="longest sequence in tokens; longer texts are cut")
    warmup_fraction: float = Field(default=0.06, ge=0, lt=1, description="share of the steps spent on the way up")
    schedule: Literal["linear", "constant"] = Field(
        default="linear", description="after the warm-up: linear falls to 0 over the rest, constant stays"
    )
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled; not applied to biases and norms")
    clip_norm: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0 does not clip")
    dropout: float | None = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="of the encoder and the head; null: the rates that the model folder has",
    )
    pooling: Literal["first", "mean"] = Field(
        default="first", description="what a sequence's head sees: the first token, or the mean of all"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of matrix products; auto: bfloat16 where it is measured to be faster"
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="factor of the learning rate from each block to the one below"
    )
    adapt: Literal["full", "bitfit", "lora"] = Field(
        default="full", description="which weights learn: all, biases only, or low-rank updates; the head always does"
    )
    lora: Lora = Field(default_factory=Lora, description="with adapt: lora")
    selection: Literal["none", "train_part", "reported"] = Field(
        default="none",
        description="what the best step is chosen on: none (the last step counts); train_part, examples held back from "
        "training or the data set's own validation split; the reported split, which makes scores optimistic",
    )
    select_by: Literal["main_metric", "f1_or_accuracy"] = Field(
        default="main_metric", description="by which score; f1_or_accuracy: F1 of two classes, else accuracy (BabyLM)"
    )
    held_back_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="share of the training data that is held back where something is chosen"
    )
    evaluate_every_steps: int | None = Field(
        default=None, ge=1, description="how often the score to choose by is computed; null: after every epoch"
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after so many of these without improvement; null: never"
    )
    min_improvement: float = Field(default=0.0, ge=0, description="what counts as improvement")
    search: GridSearch = Field(default_factory=GridSearch, description="a grid to choose hyper-parameters from")
    seed_changes: Literal["everything", "head"] = Field(
        default="everything",
        description="what the seeds change: head, order and dropout, or only the head's first weights",
    )
    tokens_per_pass: int = Field(
        default=16_384,
        ge=256,
        description="a batch with more tokens than this goes through the model in parts; changes memory, not results",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        """Lay what was given over the preset; rates that were given stand instead of the preset's, whichever kind."""
        if not isinstance(given, Mapping):
            return given
        chosen, search = preset(given.get("preset", DEFAULT)), given.get("search") or {}
        if "search" in chosen and isinstance(search, Mapping) and search.keys() & RATE_LISTS:
            others = {key: value for key, value in chosen["search"].items() if key not in RATE_LISTS}
            chosen = {**chosen, "search": others}
        return merge_mappings(chosen, given)

    @model_validator(mode="after")
    def _one_list_of_rates(self) -> Self:
        if self.search.learning_rate and self.search.rate_factors:
            raise ValueError("search.learning_rate and search.rate_factors both say which rates to try; give one")
        return self

    def for_width(self, width: int) -> "FineTuning":
        """Return the settings for an encoder of some width: with a learning rate, and rates to try as numbers."""
        of_width = float(f"{SMALL_RATE * min(1.0, SMALL_WIDTH / width) ** 2:.3g}")
        rate = self.learning_rate or of_width
        rates = [float(f"{rate * factor:.3g}") for factor in self.search.rate_factors]
        search = self.search.model_copy(
            update={"rate_factors": [], "learning_rate": rates or self.search.learning_rate}
        )
        return self.model_copy(update={"learning_rate": rate, "search": search})

    @property
    def is_rate_open(self) -> bool:
        """Whether the learning rate is left to the width of the encoder."""
        return self.learning_rate is None and not self.search.learning_rate and not self.search.rate_factors

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate, which `for_width` has decided."""
        assert self.learning_rate is not None
        return self.learning_rate

    @property
    def grid(self) -> list[dict[str, Any]]:
        """Every combination of the search, as the settings that it changes; a single empty one without a search."""
        combinations: list[dict[str, Any]] = [{}]
        for name, values in self.search.model_dump(exclude={"rate_factors"}).items():
            if values:
                combinations = [one | {name: value} for one in combinations for value in values]
        return combinations


def presets() -> dict[str, Path]:
    """Return the file of every preset but the default, by name."""
    folder = Path(str(files("maskwright.evaluation.fine_tuning") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset(name: Any) -> dict[str, Any]:
    """Return the values of a preset.

    Raises:
        ValueError: there is none of this name (pydantic adds where it stands).
    """
    known = presets()
    if name == DEFAULT:
        return {}
    if name not in known:
        every = [DEFAULT, *known]
        raise ValueError(
            f"no preset is named {name!r}{suggest_nearest(str(name), every)} (there are {', '.join(every)})"
        )
    return load_yaml(known[name])
