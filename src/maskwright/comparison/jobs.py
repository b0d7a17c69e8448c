"""Where each run of a comparison stands, what is left to do, and how long that will take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.core.errors import MemoryShortage, RecipeError
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.training.checkpoint import Checkpoints
from maskwright.training.engine.decide import require_machine
from maskwright.training.engine.plan import plan_run
from maskwright.training.recipe.differences import first_difference
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.trained_run import recipe_of_run


@dataclass(frozen=True, eq=False)
class Job:
    """One run: one arm with one seed.

    Attributes:
        arm: its name.
        seed: of the run.
        label: names the run, and its files.
        run: its folder.
        evaluation: the folder of its scores; a run that was trained elsewhere is left as it is.
        recipe_path: the recipe; None if the run was trained before.
        settings: what replaces the recipe's own.
        recipe: with every default filled in; None if the run was trained before.
    """

    arm: str
    seed: int
    label: str
    run: RunFolder
    evaluation: Path
    recipe_path: Path | None = None
    settings: Sequence[str] = ()
    recipe: Recipe | None = None


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Attributes:
        in_words: what will be done with it.
        is_begun: whether there is something to go on with.
        is_finished: whether it is trained.
        share_left: of its steps, from 0 to 1.
        seconds: that its training took, where it is finished.
    """

    in_words: str
    is_begun: bool = False
    is_finished: bool = False
    share_left: float = 1.0
    seconds: float | None = None


def state_of(job: Job, corpus: Corpus | None = None) -> State:
    """Return where a run stands.

    Args:
        job: the run.
        corpus: that it is to be trained on; None if that is not known yet.

    Raises:
        RecipeError: its folder holds a run of another recipe or corpus.
    """
    if not job.run.run_record.exists():
        return State("train")
    record = RunRecord.read(job.run.run_record)
    if job.recipe is not None:
        _require_same(job, job.recipe, record, corpus)
    seconds = record.result.seconds if record.result else None
    if record.status == "finished" and (job.run.model / "config.json").exists():
        what = "trained before" if job.recipe is None else "finished: used again"
        return State(what, True, True, 0.0, seconds)
    steps = Checkpoints(job.run.checkpoints, keep_last=1, keep_best=True).steps()
    done, total = (steps[-1] if steps else 0), record.plan.total_steps
    return State(f"go on after step {done:,} of {total:,} ({record.status})", True, False, 1 - done / total)


def _require_same(job: Job, recipe: Recipe, record: RunRecord, corpus: Corpus | None) -> None:
    """Refuse a run that is another one than was asked for."""
    there = recipe_of_run(record, str(job.run.run_record)).model_dump(mode="json")
    difference = first_difference(there, recipe.model_dump(mode="json"))
    if difference is None and corpus is not None and record.corpus_sha256 != corpus.manifest.content_sha256:
        difference = f"it was trained on {record.corpus}, not on {corpus.folder}"
    if difference is not None:
        raise RecipeError(
            f"{job.run.path} holds a run of another recipe: {difference}",
            "the run that the comparison asks for, or none",
            "choose another --out, or delete that folder",
        )


def expected_seconds(states: Mapping[Job, State]) -> dict[Job, float | None]:
    """Return for each run how long training will go on; None if the recipe does not fit into memory.

    Where a run of the same arm is finished, its time stands for the others'; else it is predicted from shapes and a
    measurement of the machine.
    """
    measured = {job.arm: state.seconds for job, state in states.items() if state.seconds}
    predicted: dict[str, float | None] = {}
    expected: dict[Job, float | None] = {}
    for job, state in states.items():
        if state.is_finished or job.recipe is None:
            expected[job] = 0.0
            continue
        if job.arm not in predicted:
            predicted[job.arm] = measured.get(job.arm) or _predicted_seconds(job.recipe)
        whole = predicted[job.arm]
        expected[job] = None if whole is None else whole * state.share_left
    return expected


def _predicted_seconds(recipe: Recipe) -> float | None:
    """Return how long a recipe will take; None if it can't fit into memory."""
    try:
        require_machine(recipe)
    except MemoryShortage:
        return None
    return plan_run(recipe).seconds
