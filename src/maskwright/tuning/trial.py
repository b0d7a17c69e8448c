"""One trial of a search: a whole run in little, and its held-out loss at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from maskwright.core.errors import NonFiniteError, RunInterrupted
from maskwright.core.log import quietly
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.pipeline.train import start_from_model
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import Recipe, parse_recipe, with_overrides
from maskwright.training.run import assemble_run
from maskwright.training.timeline import Course
from maskwright.training.watching.held_out_loss import HeldOutLoss
from maskwright.training.watching.watcher import StepDone, Watcher
from maskwright.tuning.grid import Candidate, Grid, best_settings


@dataclass(frozen=True)
class TrialMaker:
    """Trains the trials of a search.

    Attributes:
        recipe: whose rate and batch are searched.
        recipe_folder: where plug-ins of one's own are looked for.
        start_from: the model that every trial continues from.
        grid: what is tried.
        corpus: of all trials.
        ranks: all processes.
        dtype: of matrix products.
    """

    recipe: Recipe
    recipe_folder: Path
    start_from: Path | None
    grid: Grid
    corpus: Corpus
    ranks: Ranks
    dtype: str

    def train(self, candidate: Candidate, rung: int, folder: RunFolder, bar: "TrialBar") -> float | None:
        """Train from the beginning, or from where a trial was stopped.

        Args:
            candidate: what is tried.
            rung: for how long.
            folder: of the trial.
            bar: shows how far it is.

        Returns:
            The held-out loss at the end; None if the trial diverged.

        Raises:
            RunInterrupted: a signal asked to stop; the trial is saved.
        """
        before = RunRecord.read(folder.run_record) if folder.run_record.exists() else None
        self.ranks.wait()  # until all have looked, before the first writes
        with quietly():
            weights = None
            if before is None and self.start_from is not None:
                _, weights = start_from_model(self.recipe, self.start_from)
            recipe = trial_recipe(self.recipe, self.grid, candidate, rung, self.dtype)
            run = assemble_run(
                recipe,
                self.corpus,
                folder,
                self.ranks,
                {},
                start_from=weights,
                before=before,
                recipe_folder=self.recipe_folder,
            )
            # The recipe's own micro-batches, and not the trial's, decide what is hidden: the same for all.
            question = HeldOutLoss(self.recipe, self.corpus, self.ranks)
            run = replace(run, probing=replace(run.probing, held_out_loss=question))
            loop = TrainingLoop(run, display=bar.begin)
            if before is not None:
                loop.resume()
            try:
                result = loop.train()
            except NonFiniteError:
                return None
        if loop.interrupted_by is not None:
            raise RunInterrupted(f"saved in {folder.path}", int(loop.interrupted_by))
        return result.best_held_out_loss


def trial_recipe(recipe: Recipe, grid: Grid, candidate: Candidate, rung: int, dtype: str) -> Recipe:
    """Return the recipe of a trial: its held-out loss is measured once, at the end, and nothing is kept."""
    asked = {
        "budget": {"tokens": grid.rung_tokens[rung]},
        "probes": {"num_probes": 1, "tokens": recipe.probes.tokens, "max_share": None},
        "checkpoints": {"every_minutes": recipe.checkpoints.every_minutes, "keep_last": 1, "keep_best": False},
        "engine.dtype": dtype,
    }
    # Whether to compile would be decided by timing steps of every trial, of which many have few.
    asked |= {"engine.compile": "off"} if recipe.engine.compile == "auto" else {}
    asked |= best_settings(recipe, grid, candidate)
    return parse_recipe(with_overrides(recipe.model_dump(mode="json"), asked), "a trial")


class TrialBar(Watcher):
    """What a trial adds to the bar of the search."""

    def __init__(self, advance: Callable[[float], None], num_tokens: int) -> None:
        """Nothing is done yet.

        Args:
            advance: takes how many more tokens are done.
            num_tokens: of the trial.
        """
        self._advance, self._num_tokens, self._shown = advance, num_tokens, 0.0

    @contextmanager
    def begin(self, course: Course, first_step: int) -> Iterator[Watcher]:
        """Show what was done before, and then every step; called for each phase."""
        self.reach(float(course.progress(first_step)))
        yield self

    def after_step(self, step: StepDone) -> None:
        self.reach(step.figures["progress"])

    def reach(self, share: float) -> None:
        """Show that a share of the trial is done."""
        self._advance(share * self._num_tokens - self._shown)
        self._shown = share * self._num_tokens
