"""The sections of a recipe that belong to training; those of text, tokenizer and optimizer are theirs."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from maskwright.batching.samplers.base import Sampler
from maskwright.core.options import Options
from maskwright.core.plug_in_field import Chosen, ChosenFrom
from maskwright.encoders.growth import NewBlocks
from maskwright.objectives.base import Objective
from maskwright.training.watching.word_checkpoints import BABYLM, marks_of

OBJECTIVES = ChosenFrom("maskwright.objectives", Objective)
SAMPLERS = ChosenFrom("maskwright.batching.samplers", Sampler)

OLD_OPTION = "one_document_per_sequence"
"""What was an option of the phase, and is now one of its sampler `documents`."""


class EncoderSection(Options):
    """Which encoder."""

    family: str = Field(default="modernbert", description="a plug-in of encoders/families: modernbert, bert ...")
    size: str | None = Field(
        default="small", description="tiny, mini, small, medium, base or large; null if overrides say everything"
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="fields of the family's Config that differ from the size, such as num_layers"
    )
    max_positions: int | None = Field(
        default=None, ge=8, description="longest sequence the model can read; default: the longest of the phases"
    )


class Budget(Options):
    """How long to train; exactly one of these."""

    tokens: int | None = Field(default=None, ge=1, description="tokens seen, padding counted (it is under 1 %)")
    steps: int | None = Field(default=None, ge=1, description="optimizer steps")
    hours: float | None = Field(
        default=None,
        gt=0,
        description="of training; turned into steps by measuring the machine, and corrected if its speed changes",
    )
    flops: float | None = Field(default=None, gt=0, description="by the formula that `maskwright plan` shows")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of tokens, steps, hours, flops; got {', '.join(given) or 'none'}")
        return self


class BatchConfig(Options):
    """How much text makes one optimizer step."""

    tokens: int = Field(
        default=16_384, ge=8, description="tokens of the global batch, over all ranks and micro-batches"
    )
    micro_batch_tokens: int = Field(
        default=8_192,
        ge=8,
        description="tokens that pass through the encoder at once on one device; memory grows with it",
    )

    @property
    def num_micro_batches(self) -> int:
        """How many make a step, over all ranks."""
        return self.tokens // self.micro_batch_tokens


class EncoderChange(Options):
    """How the encoder of a phase differs from that of the phase before."""

    overrides: dict[str, Any] = Field(
        min_length=1,
        description="fields of the family's Config that change with this phase and stay changed, such as num_layers",
    )
    new_blocks: NewBlocks = Field(
        default="stack",
        description="how further blocks begin: stack: the blocks of before again, above them (Gong et al. 2019); copy: "
        "each as a copy right above its original; zero: as such a copy that gives back its input at first",
    )


class Phase(Options):
    """A stretch of the run with one objective and one sequence length."""

    objective: Annotated[Chosen[Objective], OBJECTIVES] = Field(
        default_factory=lambda: OBJECTIVES.choose("mlm"),
        description='the name of a plug-in of objectives/ (or "module:Class"), or a mapping of `name` and its options',
    )
    weights: Literal["continue", "fresh"] = Field(
        default="continue",
        description="go on with the weights of the phase before, or begin with fresh ones and the learning-rate "
        "schedule again: what came before was a teacher",
    )
    schedule: Literal["continue", "fresh"] = Field(
        default="continue",
        description="continue the learning-rate schedule, or restart it for this phase and those after it: for a short "
        "last phase that has something new to learn",
    )
    encoder: EncoderChange | None = Field(
        default=None,
        description="grow or change the encoder when the phase begins; with weights: fresh it may have any shape; "
        "default: that of the phase before",
    )
    keep: tuple[str, ...] | None = Field(
        default=None,
        description="parts of the objective before that go on: names of terms, for their heads, or of other parts with "
        "weights, such as decoder (late_mask); default: all that this objective has too, none if weights are fresh",
    )
    batch: BatchConfig | None = Field(default=None, description="batch of this phase; default: the recipe's")
    learning_rate: float | None = Field(
        default=None, gt=0, description="peak learning rate of this phase; default: the optimizer's"
    )
    freeze: tuple[Literal["encoder", "token_embedding", "vocabulary_head"] | Annotated[int, Field(ge=1)], ...] = Field(
        default=(),
        description="what does not learn in this phase: encoder, token_embedding, vocabulary_head, or a number: so "
        "many of the encoder's first blocks; it still counts in the budget as if it did",
    )
    share: float = Field(default=1.0, gt=0, description="share of the budget, relative to the other phases' shares")
    sequence_length: int = Field(
        default=128, ge=8, le=65_536, description="tokens in a sequence, [CLS] and [SEP] included"
    )
    sampler: Annotated[Chosen[Sampler], SAMPLERS] = Field(
        default_factory=lambda: SAMPLERS.choose("documents"),
        description="what a row holds, a plug-in of batching/samplers: documents (packed full), segments (whole "
        "sentences or paragraphs), pairs (two pieces and a label); or a mapping of `name` and its options",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_document_of_old(cls, value: Any) -> Any:
        """Take what recipes before version 0.2 said of the phase as the option of its sampler."""
        if isinstance(value, dict) and OLD_OPTION in value and "sampler" not in value:
            rest = {key: item for key, item in value.items() if key != OLD_OPTION}
            return rest | {"sampler": {"name": "documents", OLD_OPTION: value[OLD_OPTION]}}
        return value


class EngineConfig(Options):
    """How the machine is used. `auto` measures at start-up and says what it found."""

    device: str = Field(default="auto", description="auto, cpu, cuda or mps")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto", description="of matrix products; auto takes bfloat16 where a one-second probe finds it faster"
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="torch.compile; auto compiles where the run is long enough to win the time back"
    )
    attention: str = Field(default="auto", description="auto, reference, padded or varlen")


class CheckpointConfig(Options):
    """When to save. Saving never changes what is trained."""

    every_steps: int | None = Field(default=None, ge=1, description="save every so many optimizer steps")
    every_minutes: float | None = Field(default=10.0, gt=0, description="save when so much time has passed")
    keep_last: int = Field(default=2, ge=1, description="how many of the newest checkpoints to keep")
    keep_best: bool = Field(
        default=True,
        description="keep also the one with the lowest held-out loss, that of the objective's own terms, where it is "
        "measured",
    )
    by_words: Literal["babylm"] | tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        description="export the model as RUN/babylm/chck_1M and so on when so many words were seen: a list of counts, "
        f"or babylm ({BABYLM})",
    )

    @property
    def word_marks(self) -> tuple[int, ...]:
        """The word counts of `by_words`, ascending; empty if it is not asked for."""
        return marks_of(self.by_words)


class EnergyConfig(Options):
    """What energy and CO2 are estimated from, where codecarbon is not installed (the extra `energy`).

    The default of the carbon intensity is the world's average of 2018 (International Energy Agency 2019, Global Energy
    and CO2 Status Report); your grid's own is better. The power of the processor is an assumption.
    """

    processor_watts: float = Field(default=65.0, gt=0, description="power of a machine's processors under load")
    gpu_watts: float | None = Field(default=None, gt=0, description="of one GPU; default: the driver's limit")
    kg_co2_per_kwh: float = Field(default=0.475, ge=0, description="carbon intensity of the electricity")
    intensity_source: str = Field(
        default="the world's average of 2018 (IEA 2019, Global Energy and CO2 Status Report)",
        description="where kg_co2_per_kwh is from; goes into the model card",
    )


class PairsProbeConfig(Options):
    """Minimal pairs during the run, such as BLiMP's: how often the good sentence gets the higher score.

    They are never trained on, and never decide which checkpoint is best or when a run ends.
    """

    data: str = Field(description="folder with data sets in their original layouts")
    task: str = Field(default="blimp", description="a task or YAML file of minimal pairs")
    num_pairs: int = Field(
        default=500, ge=1, description="how many pairs, drawn once, evenly over the parts of the set"
    )


class ProbeConfig(Options):
    """What is measured during the run: the loss of the objective's own terms on held-out text, and clozes of it.

    Probing never changes what is trained.
    """

    every_steps: int | None = Field(
        default=None, ge=1, description="measure every so many optimizer steps; default: never"
    )
    num_probes: int | None = Field(
        default=None, ge=1, description="instead of every_steps: how many times, evenly over the run"
    )
    tokens: int = Field(default=16_384, ge=256, description="held-out tokens read each time; fixed for the whole run")
    minimal_pairs: PairsProbeConfig | None = Field(
        default=None, description="score minimal pairs too; default: held-out text alone"
    )
    max_share: float | None = Field(
        default=0.05,
        gt=0,
        description="the most that probes may cost, as a share of the training time; both are timed before the first "
        "step, and what would cost more is measured less often (but not the held-out loss if "
        "stop_after_no_improvement reads it); null: no limit",
    )
    stop_after_no_improvement: int | None = Field(
        default=None,
        ge=1,
        description="end the run after so many probes in a row without a lower held-out loss, in the last phase and "
        "those before it whose losses compare with its; default: never",
    )

    @property
    def is_on(self) -> bool:
        """Whether anything is to be measured."""
        return self.every_steps is not None or self.num_probes is not None

    @model_validator(mode="after")
    def _one_rhythm(self) -> Self:
        if self.every_steps is not None and self.num_probes is not None:
            raise ValueError("give every_steps or num_probes, not both")
        if self.stop_after_no_improvement and not self.is_on:
            raise ValueError("stop_after_no_improvement needs every_steps or num_probes")
        if self.minimal_pairs and not self.is_on:
            raise ValueError("minimal_pairs needs every_steps or num_probes")
        return self
