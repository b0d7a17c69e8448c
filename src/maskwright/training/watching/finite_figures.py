"""What a figure that is not finite says about a run: the end if the weights are not finite either, else a warning."""

import math
from dataclasses import dataclass

from maskwright.core.log import warn
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.training.safety.non_finite import require_finite
from maskwright.training.watching.watcher import StepDone, Watcher


@dataclass(frozen=True)
class FiniteFigures(Watcher):
    """Looks at what probes found, after them.

    A probe reads the weights and changes nothing, so it does not end a run whose weights are finite: the figure is null
    in `metrics.jsonl`, no curve has it, and it is no best held-out loss.

    Attributes:
        folder: of the run.
        ranks: all processes of the run.
    """

    folder: RunFolder
    ranks: Ranks

    def after_step(self, step: StepDone) -> None:
        """Look at the figures of a step.

        Raises:
            NonFiniteError: a figure is not finite, and a weight is not.
        """
        if "probe_seconds" not in step.figures:
            return  # what training itself found was checked before the update
        names = [name for name, value in step.figures.items() if not math.isfinite(value)]
        tensors = step.model.tensors()
        if self.ranks.any(bool(names), next(iter(tensors.values())).device):
            require_finite(tensors, step.state.step, step.clean_step, self.folder.path, self.ranks)
            warn(
                f"after step {step.state.step}: {', '.join(names)} not finite, with weights that are; training goes "
                "on, and metrics.jsonl has null"
            )
