"""The work of `maskwright tune`: short runs find the learning rate and the batch of a recipe.

`grid.py` says which runs, `search.py` makes them one after the other in this process and keeps the better half, and
`trial.py` trains one. The record is written after every trial, and a trial that is under way has checkpoints as any
run, so that the same command goes on where it was stopped, to the same result (tests/integration/test_tune.py).

What this can find out is bounded. A best rate at a short budget is about that of the long run with the same batch; the
best batch grows with the budget, so that the one found here is a lower bound (McCandlish et al. 2018,
arXiv:1812.06162). One seed is one draw: neighbours on the grid may be equally good.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from maskwright.core.errors import RecipeError
from maskwright.core.hardware import default_device, environment
from maskwright.core.log import say
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.core.records.tuning import TuningRecord, tuning_path
from maskwright.pipeline.corpora import prepared
from maskwright.pipeline.locate import model_folder_of
from maskwright.pipeline.recipes import RecipeLike, Settings, folder_of, read_with_overrides, settings_of
from maskwright.pipeline.train import exclusive_for_ranks, start_from_model
from maskwright.training.distributed import join_ranks, leave_ranks
from maskwright.training.engine.plan import plan_run
from maskwright.training.recipe.differences import first_difference
from maskwright.training.recipe.recipe import Recipe
from maskwright.tuning.grid import fit_grid
from maskwright.tuning.search import Search
from maskwright.tuning.trial import TrialMaker

DEFAULT_SHARE = 0.05
"""Of the budget, what a search may use."""


def tune(
    recipe: RecipeLike,
    *,
    data: Sequence[str] | str | Path = (),
    run: str | Path | None = None,
    share: float = DEFAULT_SHARE,
    from_model: str | Path | None = None,
    set: Settings = (),
    corpora: str | Path | None = None,
) -> TuningRecord:
    """Find a recipe's learning rate and batch by short runs; asked again with the same folder, go on.

    Args:
        recipe, data, from_model, set, corpora: see `pipeline.train.train`.
        run: folder of the search; runs/tune-NAME by default.
        share: of the recipe's budget, the most that all trials together may use, in (0, 1].

    Returns:
        The record, whose `settings` are the best.

    Raises:
        RecipeError: the recipe can't be used, its budget is too small, or the folder holds another search.
        NonFiniteError: every trial diverged.
        RunInterrupted: a signal asked to stop; what was done is saved.
    """
    if not 0 < share <= 1:
        raise RecipeError(f"--share {share:g}", "a share of the budget, over 0 and at most 1, such as 0.05")
    ranks = join_ranks(default_device())
    try:
        model = None if from_model is None else model_folder_of(from_model)
        with_tokenizer = {} if model is None else {"tokenizer.existing": str(model)}
        asked = read_with_overrides(recipe, data, settings_of(set) | with_tokenizer)
        if model is not None:
            asked, _ = start_from_model(asked, model)
        folder = Path(run) if run is not None else Path("runs") / f"tune-{asked.name}"
        record = _record_there(folder, asked, share, model)
        if record is not None and record.status == "finished":
            say(f"{folder} holds this search, finished")
            return record
        if record is None:
            record = _new_record(asked, share, model, ranks)
        grid = fit_grid(asked, record.budget_tokens, share, ranks.num_ranks)
        if [batch.tokens for batch in grid.batches] != record.batches:
            raise RecipeError(
                f"{folder} was begun with another number of processes: batches {record.batches} can't all be shared by "
                f"{ranks.num_ranks}",
                "as many processes as it was begun with",
                "or choose another --run",
            )
        with exclusive_for_ranks(RunFolder(folder), ranks), _told_how_to_go_on(folder):
            corpus = prepared(asked, Path(corpora) if corpora is not None else folder.parent / "corpora")
            maker = TrialMaker(asked, folder_of(recipe), model, grid, corpus, ranks, record.dtype)
            return Search(maker, folder, record).run()
    finally:
        leave_ranks()


def _record_there(folder: Path, recipe: Recipe, share: float, model: Path | None) -> TuningRecord | None:
    """Return the record of a search that was begun in a folder; None if there is none.

    Raises:
        RecipeError: it is another search; the first difference is named.
    """
    if not tuning_path(folder).exists():
        return None
    record = TuningRecord.read(tuning_path(folder))
    there = {"recipe": record.recipe, "share": record.share, "from": record.start_from}
    here = {"recipe": recipe.model_dump(mode="json"), "share": share, "from": model and str(model)}
    difference = first_difference(there, here)
    if difference is not None:
        raise RecipeError(f"{folder} holds another search: {difference}", "a folder of its own", "choose another --run")
    return record


def _new_record(recipe: Recipe, share: float, model: Path | None, ranks: Ranks) -> TuningRecord:
    """Return the record of a search that is yet to begin, with what is decided once for all trials."""
    plan = plan_run(recipe, ranks=ranks)
    # Hours depend on a measurement, which is not the same on all processes.
    (tokens,) = ranks.sum([float(plan.record.total_tokens)], torch.device(plan.engine.device))
    budget = round(tokens / ranks.num_ranks)
    grid = fit_grid(recipe, budget, share, ranks.num_ranks)
    return TuningRecord(
        name=recipe.name,
        status="running",
        recipe=recipe.model_dump(mode="json"),
        start_from=model and str(model),
        share=share,
        budget_tokens=budget,
        allowed_tokens=math.floor(share * budget),
        dtype="bfloat16" if plan.engine.dtype == "bfloat16" else "float32",
        learning_rates=list(grid.rates),
        batches=[batch.tokens for batch in grid.batches],
        rung_tokens=list(grid.rung_tokens),
        rung_trials=list(grid.rung_trials),
        environment=environment(),
    )


@contextmanager
def _told_how_to_go_on(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):
            say(f"the search is saved in {folder}; the same command goes on with it")
        raise
