"""Reopens a run: its record, recipe, tokenizer and the weights of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

from maskwright.core.discovery import find_plug_ins_in, load_plug_in
from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.records.run import RunFolder, RunRecord, record_of
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import open_corpus
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.training.checkpoint import Checkpoints, damage, load_model, load_state
from maskwright.training.model import Model, build_model
from maskwright.training.recipe.recipe import Recipe, parse_recipe
from maskwright.training.recipe.sections import OBJECTIVES
from maskwright.training.run import corpus_folder_of, require_same_corpus

Which = Literal["exported", "best", "newest"] | int
"""Which of a run's checkpoints: that of the exported model, the one with the lowest held-out loss, the newest whole
one, or the one after so many steps."""


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run with the weights of one of its checkpoints.

    Attributes:
        folder: of the run.
        record: `run.json`.
        recipe: of the run, with every default filled in.
        vocabulary: of its tokenizer.
        tokenizer: that it was trained with.
        model: of the checkpoint's phase, float32 on the CPU.
        step: after which the checkpoint was saved.
        phase: index of the phase that the checkpoint's last step was of.
    """

    folder: RunFolder
    record: RunRecord
    recipe: Recipe
    vocabulary: Vocabulary
    tokenizer: PreTrainedTokenizerFast
    model: Model
    step: int
    phase: int


def open_run(path: Path, which: Which = "exported") -> TrainedRun:
    """Reopen a run; the run itself is not changed.

    Args:
        path: its folder.
        which: the checkpoint whose weights are read.

    Raises:
        CheckpointError: there is no such run or checkpoint, it is damaged, or another version began the run.
        CorpusError: neither the run's corpus nor an exported model is there to give the tokenizer.
        RecipeError: the recipe names a plug-in that is not there.
    """
    folder, record = RunFolder(path), record_of(path)
    recipe = recipe_of_run(record, str(folder.run_record))
    tokenizer = _tokenizer_of(folder, record)
    vocabulary = vocabulary_of(tokenizer)
    step = _step_of(folder, record, which)
    checkpoint = _checkpoints(folder).path(step)
    phase = load_state(checkpoint).phase_in(record.plan)
    model = build_model(recipe, vocabulary, phase)
    load_model(checkpoint, model.tensors(), recipe.objective_number(phase))
    return TrainedRun(folder, record, recipe, vocabulary, tokenizer, model, step, phase)


def recipe_of_run(record: RunRecord, origin: str) -> Recipe:
    """Return the recipe of a run, with its own plug-ins found where the run found them.

    Args:
        record: of the run.
        origin: where the record is from, for messages.

    Raises:
        CheckpointError: the version that began the run had options that this one has not.
        RecipeError: the recipe can't be read, such as when it names a plug-in that is not there.
    """
    if record.recipe_folder:
        find_plug_ins_in(Path(record.recipe_folder))
    try:
        return parse_recipe(record.recipe, origin)
    except RecipeError as error:
        # What a record says was valid when it was written.
        for index, phase in enumerate(record.recipe["phases"]):
            name, unknown = phase["objective"]["name"], _unknown_options(phase["objective"])
            if unknown:
                raise CheckpointError(
                    f"{origin}: another version began this run: phase {index + 1}, {name}, has the options "
                    + ", ".join(unknown),
                    "options that this version has (docs/decisions/0006-runs-of-version-0-1.md)",
                    "train it anew with today's options, or resume and export it with the version that began it; its "
                    "exported model can be evaluated and reported here",
                ) from error
        raise


def require_same_updates(record: RunRecord, origin: str) -> None:
    """Raise a `CheckpointError` if this version would go on with updates of another size than the run has had."""
    optimizer = record.recipe["optimizer"]
    if optimizer["name"] == "muon" and "learning_rate_factors" not in optimizer:
        raise CheckpointError(
            f"{origin}: an earlier version began this run with a Muon whose updates have another size",
            "a run that this version began (docs/decisions/0010-our-own-muon.md)",
            "resume it with the version that began it, or train it again with a fifth of the learning rate",
        )


def _unknown_options(objective: Mapping[str, Any]) -> list[str]:
    """Return the options of an objective that its class does not have; none if there is no such class."""
    try:
        known = load_plug_in(OBJECTIVES.package, objective["name"], OBJECTIVES.base).Config.model_fields
    except RecipeError:
        return []
    return sorted(objective.keys() - known.keys() - {"name"})


def _tokenizer_of(folder: RunFolder, record: RunRecord) -> PreTrainedTokenizerFast:
    """Return a run's tokenizer: that of its corpus, or of its exported model if the corpus is gone."""
    corpus = Path(record.corpus)
    if not corpus.exists() and folder.model.is_dir():
        return load_tokenizer(folder.model)
    opened = open_corpus(corpus_folder_of(record, folder.path), verify=False)
    require_same_corpus(record, opened)
    return opened.load_tokenizer()


def _checkpoints(folder: RunFolder) -> Checkpoints:
    return Checkpoints(folder.checkpoints, keep_last=1, keep_best=True)


def _step_of(folder: RunFolder, record: RunRecord, which: Which) -> int:
    """Return the step of the checkpoint that was asked for.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    checkpoints = _checkpoints(folder)
    newest = checkpoints.newest_whole()
    if newest is None:
        raise CheckpointError(
            f"{folder.checkpoints} has no whole checkpoint", "a run that was trained for a while", "train it first"
        )
    if which == "newest":
        return load_state(newest).step
    if which == "best":
        step = load_state(newest).best_step
        if step is None:
            raise CheckpointError(f"{folder.path} never measured held-out loss", "probes in its recipe", "leave --best")
    elif which == "exported":
        step = record.export.step if record.export else None
        if step is None:
            raise CheckpointError(
                f"{folder.run_record} does not say from which step the model was exported",
                "a run that this version exported",
                f"export it: maskwright export {folder.path}",
            )
    else:
        step = which
    if problem := damage(checkpoints.path(step)):
        known = ", ".join(map(str, checkpoints.steps()))
        raise CheckpointError(f"{checkpoints.path(step)}: {problem}", f"one of the steps {known}")
    return step
