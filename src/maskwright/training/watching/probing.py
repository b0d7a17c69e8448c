"""What is measured during a run, when, and at what cost.

Probes are handed in by the command line; the loop knows them by name. They see the weights and change nothing, so how
often they are asked never changes what is trained.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from maskwright.core.log import say, warn
from maskwright.core.ranks import Ranks
from maskwright.encoders.encoder import Encoder
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.timeline import Course
from maskwright.training.watching.held_out_loss import HeldOutLoss
from maskwright.training.watching.watcher import StepDone, Watcher

Probe = Callable[[Encoder, nn.Module, torch.dtype, nn.Module], Mapping[str, float]]
"""Measures encoder and vocabulary head in a precision during a run, with what reads masked text (`Objective.reader`);
returns metrics whose names begin with what is measured."""

LOSS = "loss"
"""What is always measured: the objective's own loss on held-out text."""

CLOZES = "held_out"
"""The probe that asks every model alike for hidden tokens of held-out text."""

MINIMAL_PAIRS = "minimal_pairs"

SPOKEN = {LOSS: "held-out loss", CLOZES: "held-out clozes", MINIMAL_PAIRS: "minimal pairs"}


@dataclass(frozen=True)
class Occasions:
    """The steps after which a recipe asks to measure: a function of the step alone.

    Attributes:
        course: of the run.
        every_steps: measure after every so many steps, and after the last.
        num_probes: or so many times, evenly; both None: never.
    """

    course: Course
    every_steps: int | None
    num_probes: int | None

    def __len__(self) -> int:
        """Return how many there are by plan."""
        if self.every_steps is not None:
            return math.ceil(self._planned / self.every_steps)
        return min(self.num_probes or 0, self._planned)

    @property
    def _planned(self) -> int:
        """Steps as they were planned: what a run has become since must not change what an earlier step measures."""
        return sum(self.course.planned_steps)

    def number(self, step: int) -> int | None:
        """Return the number of the occasion after so many steps, counted from 1; None if there is none."""
        if self.every_steps is not None:
            is_due = step % self.every_steps == 0 or step == self.course.num_steps
            return math.ceil(step / self.every_steps) if is_due else None
        count = len(self)
        number, before = (math.floor(count * self.course.progress(done)) for done in (step, step - 1))
        return number if number > before else None


@dataclass(frozen=True)
class Probing(Watcher):
    """The probes of a run.

    Attributes:
        probes: by name.
        occasions: when the recipe asks for them.
        strides: by name, of how many occasions each measures one: the last, and every n-th before it; 0 for none.
        held_out_loss: what `LOSS` asks for.
        dtype: of the run.
    """

    probes: Mapping[str, Probe]
    occasions: Occasions
    strides: Mapping[str, int]
    held_out_loss: HeldOutLoss
    dtype: torch.dtype

    def after_step(self, step: StepDone) -> None:
        """Add what the probes that are due find to the figures."""
        names = self.due(step.state.step)
        if names:
            step.figures.update(self.measure(names, step.model, step.phase))

    def due(self, step: int) -> list[str]:
        """Return the names of what is measured after so many steps."""
        number = self.occasions.number(step)
        if number is None:
            return []
        is_last = step == self.occasions.course.num_steps
        left = 0 if is_last else len(self.occasions) - number
        strides = {name: self.strides.get(name, 1) for name in (LOSS, *self.probes)}
        return [name for name, stride in strides.items() if stride and left % stride == 0]

    def measure(self, names: Collection[str], model: Model, phase: int) -> dict[str, float]:
        """Return what is found in a phase, and "probe_seconds", what it took; see `due` for the names."""
        begin = time.perf_counter()
        values: dict[str, float] = {}
        for name in names:
            if name == LOSS:
                values |= self.held_out_loss(model, phase, self.dtype)
            else:
                reader = model.objective.reader(model.encoder)
                values |= self.probes[name](model.encoder, model.vocabulary_head, self.dtype, reader)
        return values | {"probe_seconds": round(time.perf_counter() - begin, 3)}


def occasions_of(recipe: Recipe, course: Course) -> Occasions:
    """Return when a recipe asks to measure in a run."""
    return Occasions(course, recipe.probes.every_steps, recipe.probes.num_probes)


def is_timing_needed(recipe: Recipe) -> bool:
    """Return whether a bound on the cost of probes asks for the time of a training step."""
    return recipe.probes.is_on and recipe.probes.max_share is not None


def decide_strides(
    recipe: Recipe,
    probes: Mapping[str, Probe],
    model: Model,
    dtype: torch.dtype,
    training_seconds: float,
    course: Course,
    held_out_tokens: int,
    ranks: Ranks,
) -> dict[str, int]:
    """Time every probe once, and decide how often each may measure; say so where it is less often than asked for.

    The held-out loss is not timed, as its objective has not begun: it takes the third of a training step that a forward
    pass is.

    Args:
        recipe: its section `probes` gives the bound; it must have one.
        probes: by name.
        model: of the first phase, on its device; it is left as it is.
        dtype: of the run.
        training_seconds: foreseen for the whole run.
        course: of the run.
        held_out_tokens: that there are.
        ranks: what is measured on each is averaged, so that all decide the same.

    Returns:
        By name, see `Probing.strides`.
    """
    assert recipe.probes.max_share is not None
    seconds = {}
    asked_with = model.encoder, model.vocabulary_head, dtype, model.objective.reader(model.encoder)
    for name, probe in probes.items():
        if not seconds:
            probe(*asked_with)  # the first call anywhere pays for what is lazy
        begin = time.perf_counter()
        probe(*asked_with)
        mine = time.perf_counter() - begin
        seconds[name] = ranks.sum([mine], next(model.encoder.parameters()).device)[0] / ranks.num_ranks
    num_tokens = min(recipe.probes.tokens, held_out_tokens)
    steps_tokens = sum(steps * recipe.batches[phase].tokens for phase, steps in enumerate(course.phase_steps))
    loss_seconds = training_seconds * num_tokens / (3 * steps_tokens)
    occasions, budget = occasions_of(recipe, course), recipe.probes.max_share * training_seconds
    fixed = {LOSS} if recipe.probes.stop_after_no_improvement else set()
    strides = affordable_strides(len(occasions), {LOSS: loss_seconds}, budget, fixed)
    left = budget - loss_seconds * math.ceil(len(occasions) / strides[LOSS])
    strides |= affordable_strides(len(occasions), seconds, left)
    seconds[LOSS] = loss_seconds
    asked = sum(seconds.values()) * len(occasions) / training_seconds
    if any(stride != 1 for stride in strides.values()):
        say(
            f"probes would take {asked:.0%} of the training time, over probes.max_share "
            f"({recipe.probes.max_share:.0%}): {_spoken_strides(strides, len(occasions))}"
        )
    if fixed and left < 0:
        warn(
            f"the held-out loss will take {1 - left / budget:.1f} times probes.max_share; it is not measured less "
            "often, since stop_after_no_improvement reads it: lower probes.tokens"
        )
    return strides


def affordable_strides(
    num_occasions: int, seconds: Mapping[str, float], budget_seconds: float, fixed: Collection[str] = ()
) -> dict[str, int]:
    """Share out what probes may cost, in their order; the first always measures at least at the end.

    Args:
        num_occasions: how often the recipe asks for them.
        seconds: of one call, by name.
        budget_seconds: for all probes together.
        fixed: names of probes that measure at every occasion, whatever they cost.

    Returns:
        By name, see `Probing.strides`. But for fixed probes and that one call, they cost at most the budget.
    """
    strides: dict[str, int] = {}
    left = budget_seconds
    for name, each in seconds.items():
        calls = num_occasions if name in fixed else min(num_occasions, int(left / each) if left > 0 else 0)
        if not strides:
            calls = max(calls, 1)
        strides[name] = math.ceil(num_occasions / calls) if calls else 0
        left -= calls * each
    return strides


def _spoken_strides(strides: Mapping[str, int], num_occasions: int) -> str:
    return "; ".join(
        f"{SPOKEN.get(name, name)} {_spoken_stride(stride, num_occasions)}" for name, stride in strides.items()
    )


def _spoken_stride(stride: int, num_occasions: int) -> str:
    if stride == 0:
        return "not at all"
    if stride == 1:
        return "as asked"
    return "only at the end" if stride >= num_occasions else f"only one time in {stride}"
