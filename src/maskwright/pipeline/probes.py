"""What a run measures on its way: the probes of a recipe, put together where training and evaluation meet."""

from pathlib import Path

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.errors import RecipeError
from maskwright.corpus.corpus import Corpus
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.datasets.pairs import Pairs
from maskwright.evaluation.probes import ClozeProbe, MinimalPairsProbe
from maskwright.evaluation.tasks.minimal_pairs import MinimalPairs
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.recipe.sections import PairsProbeConfig
from maskwright.training.watching.probing import CLOZES, MINIMAL_PAIRS, Probe


def probes_of(recipe: Recipe, corpus: Corpus) -> dict[str, Probe]:
    """Return what a recipe asks to measure during the run; the cheapest first.

    Raises:
        MissingData: the minimal pairs are not there.
        EvaluationError: they can't be read.
    """
    if not recipe.probes.is_on:
        return {}
    clozes = ClozeProbe(corpus, recipe.longest_sequence, recipe.seed, max_tokens=recipe.probes.tokens)
    probes: dict[str, Probe] = {CLOZES: clozes}
    section = recipe.probes.minimal_pairs
    if section is not None:
        probes[MINIMAL_PAIRS] = MinimalPairsProbe(
            pairs_of(section),
            corpus.load_tokenizer(),
            section.num_pairs,
            recipe.seed,
            max_tokens=recipe.max_positions - NUM_SPECIALS,
        )
    return probes


def pairs_of(section: PairsProbeConfig) -> Pairs:
    """Read the minimal pairs that a recipe asks for.

    Raises:
        RecipeError: the task is of another kind.
        MissingData: they are not there.
        EvaluationError: they can't be read.
    """
    (named, *more) = find_tasks([section.task], {})
    if more or not isinstance(named.task, MinimalPairs):
        raise RecipeError(
            f"probes.minimal_pairs.task: {section.task} is no task of minimal pairs", "a task such as blimp"
        )
    return named.task.pairs(Path(section.data))


def with_pairs_found(recipe: Recipe) -> Recipe:
    """Return a recipe whose folder of minimal pairs can be found from anywhere; refuse it before text is prepared.

    Raises:
        MissingData: they are not there.
        EvaluationError: they can't be read.
    """
    section = recipe.probes.minimal_pairs
    if section is None:
        return recipe
    pairs_of(section)
    absolute = section.model_copy(update={"data": str(Path(section.data).resolve())})
    return recipe.model_copy(update={"probes": recipe.probes.model_copy(update={"minimal_pairs": absolute})})
