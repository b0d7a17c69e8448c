"""From a checkpoint to a verified Hugging Face folder."""

from pathlib import Path

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.records import ExportRecord, RunFolder, RunRecord
from maskwright.corpus.corpus import open_corpus
from maskwright.export.folder import export_model
from maskwright.training.assemble import Model, build_model
from maskwright.training.checkpoint import Checkpoints, damage, load_model, load_state
from maskwright.training.recipe import parse_recipe
from maskwright.training.start import require_same_corpus


def checkpoint_path(folder: RunFolder, step: int | None, best: bool) -> Path:
    """Return the checkpoint that was asked for: after `step`, the best one, or the newest whole one.

    Raises:
        CheckpointError: there is none, or it is damaged.
        RecipeError: both `step` and `best` were asked for.
    """
    if best and step is not None:
        raise RecipeError("--best with --step", "one of them")
    checkpoints = Checkpoints(folder.checkpoints, keep_last=1, keep_best=True)
    newest = checkpoints.newest_whole()
    if newest is None:
        raise CheckpointError(
            f"{folder.checkpoints} has no whole checkpoint", "a run that was trained for a while", "train it first"
        )
    if best:
        step = load_state(newest).best_step
        if step is None:
            raise CheckpointError(f"{folder.path} never measured held-out loss", "probes in its recipe", "leave --best")
    if step is None:
        return newest
    problem = damage(checkpoints.path(step))
    if problem:
        known = ", ".join(map(str, checkpoints.steps()))
        raise CheckpointError(f"{checkpoints.path(step)}: {problem}", f"one of the steps {known}")
    return checkpoints.path(step)


def export_run(
    folder: RunFolder, record: RunRecord, step: int | None = None, best: bool = False, out: Path | None = None
) -> Path:
    """Export a checkpoint of a run and note it in the run's record.

    Args:
        folder: of the run.
        record: of the run.
        step: of the checkpoint; the newest whole one by default.
        best: the checkpoint with the lowest held-out loss.
        out: RUN/model by default; only that one is noted in the record.

    Returns:
        The folder written.
    """
    path = checkpoint_path(folder, step, best)
    recipe = parse_recipe(record.recipe, str(folder.run_record))
    corpus = open_corpus(Path(record.corpus), verify=False)
    require_same_corpus(record, corpus)
    model: Model = build_model(recipe, corpus.vocabulary, None)
    load_model(path, model.tensors())
    target = out or folder.model
    export: ExportRecord = export_model(model.encoder, model.vocabulary_head, corpus.load_tokenizer(), target)
    if out is None:
        record.model_copy(update={"export": export}).write(folder.run_record)
    return target
