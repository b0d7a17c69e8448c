"""The training loop: take a step's batches, one update, and now and then a line, a probe, a checkpoint."""

import contextlib
import functools
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskwright.batching.loader import Loader
from maskwright.core.batches import CorruptedBatch
from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.integrity import SUMS
from maskwright.core.log import say
from maskwright.core.records.run import ResultRecord, SettingChange
from maskwright.training.checkpoint import (
    Checkpoints,
    TrainingState,
    load_model,
    load_optimizer,
    load_state,
)
from maskwright.training.engine.hours import hours_of
from maskwright.training.model import build_model
from maskwright.training.phases import PhaseRun, begin_phase, enter_phase, leave_phase, open_phase
from maskwright.training.run import Run
from maskwright.training.safety.interrupts import Interrupts
from maskwright.training.safety.non_finite import memory_errors_explained, refuse_non_finite, require_finite
from maskwright.training.setting_changes import RecipeBySteps
from maskwright.training.step import StepLoss, Stepper
from maskwright.training.step_batches import ready_for
from maskwright.training.timeline import Course
from maskwright.training.watching.display import Display
from maskwright.training.watching.finite_figures import FiniteFigures
from maskwright.training.watching.metrics import MetricsLog
from maskwright.training.watching.watcher import StepDone, Watcher
from maskwright.training.watching.word_exports import WordExports


class TrainingLoop:
    """Runs from where the run stands to its end, an interruption or an error."""

    def __init__(
        self,
        run: Run,
        changes: Sequence[SettingChange] = (),
        display: Callable[[Course, int], contextlib.AbstractContextManager[Watcher]] = Display,
    ) -> None:
        """Open the first phase of a run.

        Args:
            run: that begins, or is to be resumed.
            changes: of settings, that its record has.
            display: makes what shows how training goes, from the course and the steps that are done.
        """
        self.run, self._display = run, display
        self.recipe = RecipeBySteps(run.recipe, changes)
        settings = run.recipe.checkpoints
        self.checkpoints = Checkpoints(run.folder.checkpoints, settings.keep_last, settings.keep_best)
        self.state = TrainingState(step=0, phase=0, num_tokens=0, num_text_tokens=0, seconds=0.0)
        self._saved_at = time.monotonic()
        self._clean_step: int | None = None
        self.interrupted_by: signal.Signals | None = None
        self._log: MetricsLog | None = None
        self._begun: PhaseRun | None = None
        self._left: PhaseRun | None = None
        self.phase = open_phase(run, 0, run.models.pop(0))
        self.hours = hours_of(run)

    def resume(self, settings: Mapping[str, Any] | None = None) -> None:
        """Load the newest whole checkpoint.

        Args:
            settings: values that hold from the next step on, by dotted key (`setting_changes.CHANGEABLE`).

        Raises:
            CheckpointError: there are checkpoints but all are damaged or not finite, or they belong to another model.
            RecipeError: a setting can't change.
        """
        self._load_newest()
        if settings:
            if self.is_at_end:
                raise RecipeError("--resume --set: the run is trained to its end", "--run and --resume alone")
            step = self.state.step
            self.recipe = self.recipe.changed(step, self.run.course.position_of(step).phase, settings)
            say(f"from step {step + 1} on: {', '.join(f'{key}={value}' for key, value in settings.items())}")

    def _load_newest(self) -> None:
        path, run = self.checkpoints.newest_whole(), self.run
        if path is None:
            if self.checkpoints.steps():
                raise CheckpointError(
                    f"every checkpoint in {run.folder.checkpoints} is damaged or not finite",
                    "at least one whole checkpoint",
                    "restore one from a copy, or start again in another run folder",
                )
            return
        state = load_state(path)
        self._clean_step = state.step
        index = state.phase_in(run.plan)
        self.state = state.model_copy(update={"phase": index})
        if index != self.phase.index:
            model, recipe = self.phase.model, run.recipe
            # Where the shape is the same the modules serve again: the checkpoint has all weights.
            is_alike = recipe.encoder_of(index) == recipe.encoder_of(self.phase.index)
            around = (model.encoder, model.vocabulary_head) if is_alike else None
            self.phase = open_phase(run, index, build_model(recipe, run.corpus.vocabulary, index, around))
        number = run.recipe.objective_number(index)
        load_model(path, self.phase.model.tensors(), number)
        self.phase.optimizers.load_state_tensors(load_optimizer(path, number))
        say(f"resuming after step {self.state.step} of {run.course.num_steps}")

    def train(self) -> ResultRecord:
        """Train to the end, or until a signal asks to stop; the result says which.

        Raises:
            NonFiniteError: a loss or gradient was not finite, and the weights before that step are saved; or weights
                or optimizer state were not when they were to be saved.
            MemoryShortage: a micro-batch does not fit.
        """
        run = self.run
        with contextlib.ExitStack() as opened, Interrupts() as interrupts:
            exports = WordExports(run.word_marks, run.tokenizer, run.folder, run.ranks)
            watchers: list[Watcher] = [run.probing, FiniteFigures(run.folder, run.ranks), exports]
            if run.ranks.is_first:
                state = self.state
                log = MetricsLog(run.folder.metrics, run.folder.path / "tensorboard", state.step, state.metrics_sha256)
                self._log = opened.enter_context(contextlib.closing(log))
                if log.was_altered:
                    self.state = state.model_copy(update={"metrics_altered_until": state.step})
                watchers.insert(2, log)
            while not self.is_at_end and self.interrupted_by is None:
                with interrupts.let_through():
                    stepper = self._begin_phase()
                self._train_phase(stepper, interrupts, watchers)
            if self.is_at_end:
                self._leave_phase()
        if self.state.probe_seconds:
            share = self.state.probe_seconds / self.state.seconds
            say(f"probes took {self.state.probe_seconds:,.1f} s, {share:.1%} of the time in training steps")
        return self._result()

    def _begin_phase(self) -> Stepper:
        """Enter the phase of the next step, unless the run is in it; where there is something to make, save before."""
        run, step = self.run, self.state.step
        index = run.course.position_of(step).phase
        left, phase = None, self.phase
        if index != phase.index:
            self._leave_phase()
            left, phase = phase, enter_phase(run, phase)
        is_first_step = step == run.course.first_step(index)
        if phase.is_prepared and is_first_step:
            self.save()
        stepper = begin_phase(run, phase, step, left)
        self.phase = self._begun = phase
        if is_first_step and index in run.recipe.measured_anew:
            self.state = self.state.judged_anew()
        return stepper

    def _train_phase(self, stepper: Stepper, interrupts: Interrupts, watchers: Sequence[Watcher]) -> None:
        """Train to the end of the phase, or until patience ends or a signal asks to stop."""
        run, phase = self.run, self.phase
        end_of_phase = functools.partial(run.course.first_step, phase.index + 1)
        can_end_run = phase.index >= max(run.recipe.measured_anew, default=0)
        batches = ready_for(run.device, functools.partial(run.batches, objective=phase.model.objective))
        with (
            contextlib.closing(Loader(batches, self.state.step, end_of_phase())) as loader,
            self._display(run.course, self.state.step) as display,
        ):
            while self.state.step < end_of_phase() and not self.is_out_of_patience:
                before = self.state
                figures = self._one_step(stepper, loader)
                done = StepDone(before, self.state, phase.index, phase.model, self._clean_step, figures)
                for watcher in (display, *watchers):
                    watcher.after_step(done)
                self.state = self.state.measured(figures, can_end_run)
                if self.hours and not self.is_at_end:
                    self.hours.after_step(self.state.step, self.state.seconds, self.state.seconds - before.seconds)
                    loader.end_step = end_of_phase()
                is_interrupted = run.ranks.any(interrupts.received is not None, run.device)
                if is_interrupted or self.is_at_end or self._is_save_due():
                    self.save()
                if is_interrupted:
                    # If another rank got a signal and this one did not, use torchrun's own signal.
                    self.interrupted_by = interrupts.received or signal.SIGTERM
                if is_interrupted and not self.is_at_end:
                    return
        self._leave_phase()

    def _leave_phase(self) -> None:
        """Leave the phase, once; if a process was stopped between its last step and that, begin it for the purpose."""
        run, phase = self.run, self.phase
        if phase is self._left:
            return
        if phase is not self._begun:
            is_left = (run.folder.phase(phase.index) / SUMS).exists()
            if not run.ranks.any(run.ranks.is_first and not is_left, run.device):
                return
            begin_phase(run, phase, self.state.step, None)
        self._require_finite()
        leave_phase(run, phase, self.state.step)
        self._left = phase

    @property
    def is_at_end(self) -> bool:
        """Whether every step is done, or patience with it."""
        return self.state.step == self.run.course.num_steps or self.is_out_of_patience

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the recipe asks to stop early and the last probes give reason to."""
        patience = self.run.recipe.probes.stop_after_no_improvement
        return patience is not None and self.state.num_probes_without_improvement >= patience

    def _one_step(self, stepper: Stepper, loader: Loader[list[CorruptedBatch]]) -> dict[str, float]:
        """Make one update and return its figures."""
        run, step = self.run, self.state.step
        position = run.course.position_of(step)
        phase, numbers = self.phase, run.batches.numbers(self.phase.index)
        begin = time.perf_counter()
        batches = loader.take()
        with memory_errors_explained(run.recipe.batches[phase.index].micro_batch_tokens):
            sums = stepper.forward_backward(step, numbers, batches)
        recipe = self.recipe.at(step)
        norm = phase.optimizers.clip(recipe.optimizer.clip_norm)
        # The device is waited for here and nowhere else in a step.
        step_loss, gradient_norm = sums.read(), float(norm)
        if not (math.isfinite(step_loss.loss) and math.isfinite(gradient_norm)):
            phase.optimizers.drop_gradients()
            problem = f"the loss is {step_loss.loss}, the gradient norm {gradient_norm}"
            raise refuse_non_finite(problem, step, numbers, batches, self.save(), run.folder.path)
        factor = recipe.schedule.factor(position.schedule_progress)
        learning_rate = recipe.peak_learning_rate(phase.index) * factor
        phase.optimizers.step(learning_rate)
        phase.model.objective.after_step(phase.model.encoder, position.step_in_phase + 1)
        seconds = time.perf_counter() - begin
        counts = [float(sum(count(batch) for batch in batches)) for count in (_num_tokens, _num_text_tokens)]
        num_tokens, num_text_tokens = map(int, run.ranks.sum(counts, run.device))
        self.state = self.state.model_copy(
            update={
                "step": step + 1,
                "phase": phase.index,
                "num_tokens": self.state.num_tokens + num_tokens,
                "num_text_tokens": self.state.num_text_tokens + num_text_tokens,
                "seconds": self.state.seconds + seconds,
                "last_loss": step_loss.loss,
            }
        )
        return self._figures(step_loss, learning_rate, gradient_norm, num_tokens / seconds)

    def _figures(
        self, loss: StepLoss, learning_rate: float, gradient_norm: float, tokens_per_second: float
    ) -> dict[str, float]:
        peak = self.run.engine.matmul_flops_per_second * self.run.engine.num_ranks
        return {
            "tokens": self.state.num_tokens,
            "words": self.run.word_marks.words(self.state.num_text_tokens),
            "seconds": round(self.state.seconds, 3),
            "phase": self.phase.index,
            "progress": float(self.run.course.progress(self.state.step)),
            "loss": loss.loss,
            **loss.means,
            "learning_rate": learning_rate,
            "gradient_norm": gradient_norm,
            "tokens_per_second": round(tokens_per_second, 1),
            "utilisation": round(self.run.plan.phases[self.phase.index].flops_per_token * tokens_per_second / peak, 4),
        }

    def _is_save_due(self) -> bool:
        settings = self.run.recipe.checkpoints
        by_steps = settings.every_steps is not None and self.state.step % settings.every_steps == 0
        is_late = settings.every_minutes is not None and time.monotonic() - self._saved_at > 60 * settings.every_minutes
        is_best = settings.keep_best and self.state.best_step == self.state.step
        return by_steps or is_best or self.run.ranks.any(is_late, self.run.device)

    def save(self) -> Path:
        """Save a checkpoint (rank 0 writes; all have the same weights) and return its path.

        Raises:
            NonFiniteError: weights or optimizer state are not finite; nothing is written.
        """
        path = self.checkpoints.path(self.state.step)
        if self.state.step == self._clean_step:
            return path
        self._require_finite()
        if self._log is not None:
            self.state = self.state.model_copy(update={"metrics_sha256": self._log.sync()})
        if self.run.ranks.is_first:
            self.checkpoints.save(self.phase.model.tensors(), self.phase.optimizers.state_tensors(), self.state)
        self.run.ranks.wait()
        self._saved_at, self._clean_step = time.monotonic(), self.state.step
        return path

    def _require_finite(self) -> None:
        tensors = self.phase.model.tensors() | self.phase.optimizers.state_tensors()
        require_finite(tensors, self.state.step, self._clean_step, self.run.folder.path, self.run.ranks)

    def _result(self) -> ResultRecord:
        return ResultRecord(
            step=self.state.step,
            num_tokens=self.state.num_tokens,
            seconds=self.state.seconds,
            probe_seconds=self.state.probe_seconds,
            final_loss=self.state.last_loss,
            best_step=self.state.best_step,
            best_held_out_loss=self.state.lowest_held_out_loss,
            stopped_early=self.is_out_of_patience,
            metrics_sha256=self.state.metrics_sha256,
            metrics_altered_until=self.state.metrics_altered_until,
        )


def _num_tokens(batch: CorruptedBatch) -> int:
    return batch.clean.num_real_tokens


def _num_text_tokens(batch: CorruptedBatch) -> int:
    return batch.clean.num_text_tokens
