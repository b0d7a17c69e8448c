"""Settings that may change while a run is stopped: from a step on, written down, so that resuming stays exact."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from maskwright.core.errors import RecipeError
from maskwright.core.records.run import SettingChange
from maskwright.training.recipe.recipe import Recipe, parse_recipe, with_overrides

CHANGEABLE = re.compile(r"optimizer\.(learning_rate|clip_norm)|phases\.\d+\.learning_rate")
"""What `--resume --set` may name: an update reads it, and nothing that was decided before the first step does."""


class RecipeBySteps:
    """The recipe of a run, which is another one from some steps on."""

    def __init__(self, recipe: Recipe, changes: Sequence[SettingChange]) -> None:
        """Apply the changes that were written down.

        Args:
            recipe: that the run was begun with.
            changes: of its record; of several for one key the last by step counts.
        """
        self.changes, self._began_with = list(changes), recipe
        raw = recipe.model_dump(mode="json")
        self._stages = [(0, recipe)]
        for change in sorted(changes, key=lambda each: each.step):
            raw = with_overrides(raw, {change.key: change.value})
            self._stages.append((change.step, parse_recipe(raw, "--set")))

    def at(self, step: int) -> Recipe:
        """Return the recipe by which a step is made, counted from 0."""
        return next(recipe for begin, recipe in reversed(self._stages) if begin <= step)

    def changed(self, step: int, phase: int, settings: Mapping[str, Any]) -> "RecipeBySteps":
        """Return the recipe after a change from a step on; what was planned later for the same keys is dropped.

        Args:
            step: the next one, counted from 0.
            phase: index of the phase of that step.
            settings: values by dotted key.

        Raises:
            RecipeError: one may not change, or can't have that value, or no step would notice.
        """
        for key in settings:
            if not CHANGEABLE.fullmatch(key):
                raise RecipeError(
                    f"--resume --set {key}: a run that has begun does not change it",
                    "optimizer.learning_rate, optimizer.clip_norm or phases.N.learning_rate",
                    "begin a new run",
                )
            named = re.match(r"phases\.(\d+)", key)
            if named and int(named[1]) < phase:
                raise RecipeError(
                    f"--resume --set {key}: phase {int(named[1]) + 1} is over, no step would notice",
                    f"phases.{phase}.learning_rate, of the phase that runs, or of one that follows",
                )
        own = self.at(step).phases[phase].learning_rate
        if "optimizer.learning_rate" in settings and own is not None:
            raise RecipeError(
                f"--set optimizer.learning_rate: phase {phase + 1} has a learning rate of its own, {own:g}",
                f"--set phases.{phase}.learning_rate=...",
            )
        # Before the record of it: a value that can't be used is told in the recipe's words.
        parse_recipe(with_overrides(self.at(step).model_dump(mode="json"), settings), "--set")
        kept = [each for each in self.changes if each.step < step or each.key not in settings]
        news = [SettingChange(step=step, key=key, value=value) for key, value in settings.items()]
        return RecipeBySteps(self._began_with, [*kept, *news])
