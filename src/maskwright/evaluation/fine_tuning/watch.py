"""Evaluates during training, keeps the best weights, and stops when the score no longer improves."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from maskwright.evaluation.fine_tuning.settings import FineTuning


class BestStepWatch:
    """Keeps the best step of a training, as `Trainer` of transformers does with `EarlyStoppingCallback`.

    Any higher score is the best; only one that is higher by more than `min_improvement` renews the patience
    (`tests/unit/evaluation/fine_tuning/test_watch.py` compares it with theirs).
    """

    def __init__(self, model: nn.Module, score: Callable[[], float] | None, settings: FineTuning) -> None:
        """Begin to watch.

        Args:
            model: whose learning weights are kept, on the host.
            score: the higher the better; None watches nothing, and the last step counts.
            settings: how often to look, and when to stop.
        """
        self._model, self._score, self._settings = model, score, settings
        self._num_without_improvement = 0
        self._best_weights: dict[str, Tensor] = {}
        self.history: list[tuple[int, float]] = []
        self.best_step: int | None = None
        self.best_score: float | None = None

    def wants_to_stop(self, step: int, is_epoch_end: bool) -> bool:
        """Evaluate if it is time to; return whether to stop.

        Args:
            step: how many steps were made.
            is_epoch_end: whether the last one ended an epoch.
        """
        every = self._settings.evaluate_every_steps
        is_time = is_epoch_end if every is None else step % every == 0
        if self._score is None or not is_time:
            return False
        score = self._score()
        self.history.append((step, score))
        if self.best_score is None or score > self.best_score + self._settings.min_improvement:
            self._num_without_improvement = 0
        else:
            self._num_without_improvement += 1
        if self.best_score is None or score > self.best_score:
            self.best_step, self.best_score = step, score
            # Weights are enough: training changes no other state of our encoders.
            self._best_weights = {name: value.detach().to("cpu", copy=True) for name, value in self._learning()}
        return self._settings.patience is not None and self._num_without_improvement >= self._settings.patience

    def restore_best(self) -> None:
        """Give the model the weights of its best step; without one it stays as it is."""
        with torch.no_grad():
            for name, value in self._learning():
                if name in self._best_weights:
                    value.copy_(self._best_weights[name])

    def _learning(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self._model.named_parameters() if value.requires_grad]
