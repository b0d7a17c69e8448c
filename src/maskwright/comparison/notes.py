"""What a reader must know to judge a comparison, in words: made equal by whom, weighed how, and what was not."""

import itertools
from collections.abc import Sequence

from maskwright.comparison.asked import Arm
from maskwright.comparison.statistics import AVERAGE, ArmsCompared
from maskwright.core.records.comparison import ArmRecord, ArmRun, Measure
from maskwright.evaluation.compare_models import LEVEL
from maskwright.evaluation.significance import FEWEST_SEEDS
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.step_batches import RowKind, row_kind


def notes_of(
    arms: Sequence[Arm], records: Sequence[ArmRecord], compared: ArmsCompared, measures: Sequence[Measure]
) -> list[str]:
    """Return the notes of a comparison."""
    notes = [*on_failures(records), on_order(arms), *on_budget(arms, records), *on_machines(records)]
    if any(measure.name == "held_out" for measure in measures):
        notes.append(on_held_out(arms))
    notes += on_decoders(arms)
    if any(measure.is_fine_tuned for measure in measures):
        notes.append("Every run is fine-tuned once for each task, with the run's own seed.")
    if compared.differences:
        notes += on_significance(compared)
    return notes


def on_failures(records: Sequence[ArmRecord]) -> list[str]:
    """Return what went wrong, run by run."""
    return [f"{arm.name}, seed {run.seed}: {run.problem}." for arm in records for run in arm.runs if run.problem]


def on_order(arms: Sequence[Arm]) -> str:
    """Return what the runs of one seed have in common."""
    here = [arm for arm in arms if arm.path is not None]
    if len(here) < len(arms):
        return "Some arms were trained before, each run with a recipe and, maybe, a budget of its own."
    if len({tuple(kinds_of_rows(arm.recipe)) for arm in here}) == 1:
        return "All runs share one corpus and one tokenizer, and runs with equal seeds read the same text in one order."
    return (
        "All runs share one corpus and one tokenizer. The arms differ in the lengths of their sequences, or in when "
        "these change, so the text comes in another order, also where seeds are equal."
    )


def kinds_of_rows(recipe: Recipe) -> list[tuple[RowKind, float]]:
    """Return the kinds of rows that a run reads one after the other, each with its share of the run."""
    total = sum(phase.share for phase in recipe.phases)
    return [
        (kind, round(sum(phase.share for phase in phases) / total, 6))
        for kind, phases in itertools.groupby(recipe.phases, row_kind)
    ]


def on_budget(arms: Sequence[Arm], records: Sequence[ArmRecord]) -> list[str]:
    """Return how the budget was kept to."""
    notes = []
    if any(arm.path is not None and arm.recipe.budget.hours is not None for arm in arms):
        notes.append(
            "Hours were turned into steps by timing steps before each run's first one, and corrected on the way; "
            "steps, tokens and time are what was really used."
        )
    early = [f"{arm.name}, seed {run.seed}" for arm in records for run in arm.runs if run.is_stopped_early]
    if early:
        notes.append(f"Stopped before the budget was used, as their recipes ask: {'; '.join(early)}.")
    notes.append("Time is that of training steps; preparing, probes, saving and scoring are left out.")
    return notes


def on_machines(records: Sequence[ArmRecord]) -> list[str]:
    """Return which machines there were, and a warning where they differ."""
    runs: list[ArmRun] = [run for arm in records for run in arm.runs if run.machine]
    machines = sorted({run.machine for run in runs})
    if len(machines) > 1:
        return [f"Times and energy don't compare: runs were made on {'; on '.join(machines)}."]
    return [f"Made on {machines[0]}."] if machines else []


def on_held_out(arms: Sequence[Arm]) -> str:
    """Return what held-out text is."""
    limits = sorted({arm.recipe.max_positions for arm in arms})
    text = "Held-out text: the same tokens are hidden for all runs, at one rate, whatever rate they were trained with"
    if len(limits) == 1:
        return f"{text}."
    return f"{text}; read in pieces of {limits[0]} tokens, as not every model can read {limits[-1]}."


def on_decoders(arms: Sequence[Arm]) -> list[str]:
    """Return whose masks are filled with more than what is exported."""
    last = {arm.name: arm.recipe.phases[-1].objective for arm in arms}
    names = [name for name, chosen in last.items() if chosen.plug_in.fills_masks_with(chosen.options) == "reader"]
    if not names:
        return []
    return [f"Masks are filled with the decoder that they were trained with, which no export has: {'; '.join(names)}."]


def on_significance(compared: ArmsCompared) -> list[str]:
    """Return how the evidence was weighed."""
    rows = compared.differences
    num_tests = sum(row.p_corrected is not None for row in rows)
    notes = [
        f"p over items: paired bootstrap, {compared.num_resamples:,} resamples, the same items for all (of held-out "
        f"text, documents). p over seeds: t-test from {FEWEST_SEEDS} seeds on, paired where seeds are the same. The "
        f"larger of the two counts, after Holm's correction for {num_tests} test{'s' if num_tests != 1 else ''}; up to "
        f"{LEVEL} is evidence. No evidence of a difference is not evidence that there is none.",
    ]
    if any(row.measure == AVERAGE for row in rows):
        notes.append("Averages over tasks are tested over seeds alone.")
    if any(row.p_seeds is None and row.p_items is not None for row in rows):
        notes.append(
            f"Where fewer than {FEWEST_SEEDS} seeds were compared, or seeds made no difference, p is over items alone: "
            "it tells these models apart, not the recipes."
        )
    return notes
