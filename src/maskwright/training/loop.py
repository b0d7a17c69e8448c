"""The training loop: take a step's batches, one update, and now and then a line, a probe, a checkpoint."""

import contextlib
import math
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from maskwright.batching.loader import Loader
from maskwright.core.batches import CorruptedBatch
from maskwright.core.errors import CheckpointError
from maskwright.core.log import say
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import EngineRecord, ResultRecord, RunFolder
from maskwright.corpus.corpus import Corpus
from maskwright.export import export_model
from maskwright.optim.optimizers import Optimizers
from maskwright.training.checkpoint import (
    Checkpoints,
    TrainingState,
    load_model,
    load_optimizer,
    load_state,
)
from maskwright.training.model import Model
from maskwright.training.phases import is_prepared, phase_start, renew_weights
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.safety.interrupts import Interrupts
from maskwright.training.safety.non_finite import memory_errors_explained, refuse_non_finite
from maskwright.training.step import PhaseModel, StepLoss, Stepper
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course
from maskwright.training.watching.display import Display
from maskwright.training.watching.masked_example import beginning_of_a_document, write_masked_example
from maskwright.training.watching.metrics import MetricsLog
from maskwright.training.watching.probing import BEST_BY, Probing
from maskwright.training.watching.word_checkpoints import WordMarks


@dataclass
class Run:
    """All that the loop needs, assembled.

    Attributes:
        recipe: validated.
        corpus: prepared.
        folder: where everything is written.
        model: on its device.
        optimizers: of all the model's parameters.
        batches: step -> corrupted micro-batches.
        course: step -> phase and progress.
        engine: what was decided about this machine.
        flops_per_token: of training, by phase.
        ranks: all processes of the run.
        probing: what is measured during the run, and when.
        word_marks: when the model is exported, by words seen.
        tokenizer: goes into those exports.
    """

    recipe: Recipe
    corpus: Corpus
    folder: RunFolder
    model: Model
    optimizers: Optimizers
    batches: StepBatches
    course: Course
    engine: EngineRecord
    flops_per_token: list[float]
    ranks: Ranks
    probing: Probing
    word_marks: WordMarks
    tokenizer: PreTrainedTokenizerFast


class TrainingLoop:
    """Runs from where the run stands to its end, an interruption or an error."""

    def __init__(self, run: Run) -> None:
        """Take up the run, from its newest whole checkpoint if there is one."""
        self.run = run
        self.device = torch.device(run.engine.device)
        self.dtype = getattr(torch, run.engine.dtype)
        settings = run.recipe.checkpoints
        self.checkpoints = Checkpoints(run.folder.checkpoints, settings.keep_last, settings.keep_best)
        self.state = TrainingState(step=0, num_tokens=0, num_text_tokens=0, seconds=0.0)
        self._saved_at, self._saved_step = time.monotonic(), -1
        self.interrupted_by: signal.Signals | None = None
        self._stepper: tuple[int, Stepper] | None = None

    def resume(self) -> None:
        """Load the newest whole checkpoint.

        Raises:
            CheckpointError: there are checkpoints but all are damaged, or they belong to another model.
        """
        path = self.checkpoints.newest_whole()
        if path is None:
            if self.checkpoints.steps():
                raise CheckpointError(
                    f"every checkpoint in {self.run.folder.checkpoints} is damaged",
                    "at least one whole checkpoint",
                    "restore one from a copy, or start again in another run folder",
                )
            return
        self.state = load_state(path)
        load_model(path, self.run.model.tensors())
        self.run.optimizers.load_state_tensors(load_optimizer(path))
        say(f"resuming after step {self.state.step} of {self.run.course.num_steps}")

    def train(self) -> ResultRecord:
        """Train to the end, or until a signal asks to stop; the result says which.

        Raises:
            NonFiniteError: a loss or gradient was not finite; the weights before that step are saved.
            MemoryShortage: a micro-batch does not fit.
        """
        run, num_steps = self.run, self.run.course.num_steps
        metrics = None
        if run.ranks.is_first:
            metrics = MetricsLog(run.folder.metrics, run.folder.path / "tensorboard", self.state.step)
        try:
            with Interrupts() as interrupts:
                while self.state.step < num_steps and not self.is_out_of_patience and self.interrupted_by is None:
                    phase = run.course.position_of(self.state.step).phase
                    with interrupts.let_through():
                        self._begin_phase(phase)
                    self._train_phase(phase, interrupts, metrics)
        finally:
            if metrics:
                metrics.close()
        if self.state.probe_seconds:
            share = self.state.probe_seconds / self.state.seconds
            say(f"probes took {self.state.probe_seconds:,.1f} s, {share:.1%} of the time in training steps")
        return self._result()

    def _begin_phase(self, phase: int) -> None:
        """Let the phase's objective make ready; where there is something to make, save before."""
        run, was_begun = self.run, self.state.step > self.run.course.first_step(phase)
        if is_prepared(run.recipe, run.model, phase) and not was_begun:
            self.save()
        start = phase_start(
            run.recipe, run.folder, run.corpus, run.course, self.state.step, self.device, self.dtype, run.ranks
        )
        run.model.objectives[phase].begin(run.model.encoder, start)
        if phase in run.recipe.fresh_phases and not was_begun:
            renew_weights(run.recipe, run.corpus, run.model, run.optimizers, phase)
        if phase in run.recipe.measured_anew and not was_begun:
            news = {"best_step": None, "lowest_held_out_loss": None, "num_probes_without_improvement": 0}
            self.state = self.state.model_copy(update=news)

    def _train_phase(self, phase: int, interrupts: Interrupts, metrics: MetricsLog | None) -> None:
        """Train to the end of the phase, or until patience ends or a signal asks to stop."""
        run, num_steps = self.run, self.run.course.num_steps
        end = run.course.first_step(phase + 1)
        with (
            contextlib.closing(Loader(run.batches, self.state.step, end)) as loader,
            Display(num_steps, self.state.step) as display,
        ):
            while self.state.step < end and not self.is_out_of_patience:
                text_tokens_before = self.state.num_text_tokens
                line = self._one_step(loader)
                display.update(self.state.step, line["loss"], line["tokens_per_second"], line["utilisation"])
                line |= self._measure(phase)
                # Before saving: a run killed after a save has the lines and the exports of all its steps.
                if metrics:
                    metrics.write(self.state.step, line)
                self._export_at_marks(text_tokens_before)
                is_last = self.state.step == num_steps or self.is_out_of_patience
                is_interrupted = run.ranks.any(interrupts.received is not None, self.device)
                if is_interrupted or is_last or self._is_save_due():
                    self.save()
                if is_interrupted and not is_last:
                    # If another rank got a signal and this one did not, use torchrun's own signal.
                    self.interrupted_by = interrupts.received or signal.SIGTERM
                    return
        if run.ranks.is_first:
            self._write_masked_example(phase)

    @torch.no_grad()
    def _write_masked_example(self, phase: int) -> None:
        """Write what the objective, with the weights and the rate of now, hides in a paragraph."""
        run, objective = self.run, self.run.model.objectives[phase]
        clean = beginning_of_a_document(run.corpus, run.recipe.phases[phase].sequence_length)
        # One generator for all phases: where they hide the same way, they hide the same.
        generator = torch_generator(run.recipe.seed, "masked_example")
        batch = objective.corrupt(clean, generator, run.course.position_of(self.state.step - 1).phase_progress)
        batch = objective.complete(run.model.encoder, batch.to(self.device))
        write_masked_example(run.folder, phase, run.recipe.phases[phase].objective, batch, run.tokenizer)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the recipe asks to stop early and the last probes give reason to."""
        patience = self.run.recipe.probes.stop_after_no_improvement
        return patience is not None and self.state.num_probes_without_improvement >= patience

    def _one_step(self, loader: Loader[list[CorruptedBatch]]) -> dict[str, float]:
        """Make one update and return its line of metrics."""
        run, step = self.run, self.state.step
        position = run.course.position_of(step)
        begin = time.perf_counter()
        batches = loader.take()
        with memory_errors_explained(run.recipe.batch.micro_batch_tokens):
            step_loss = self._stepper_of(position.phase).forward_backward(step, run.batches.numbers, batches)
        gradient_norm = float(run.optimizers.clip())
        if not (math.isfinite(step_loss.loss) and math.isfinite(gradient_norm)):
            run.optimizers.drop_gradients()
            problem = f"the loss is {step_loss.loss}, the gradient norm {gradient_norm}"
            raise refuse_non_finite(problem, step, run.batches.numbers, batches, self.save(), run.folder.path)
        factor = run.recipe.schedule.factor(position.schedule_progress)
        learning_rate = run.recipe.peak_learning_rate(position.phase) * factor
        run.optimizers.step(learning_rate)
        run.model.objectives[position.phase].after_step(run.model.encoder, position.step_in_phase + 1)
        seconds = time.perf_counter() - begin
        counts = [float(sum(count(batch) for batch in batches)) for count in (_num_tokens, _num_text_tokens)]
        num_tokens, num_text_tokens = map(int, run.ranks.sum(counts, self.device))
        self.state = self.state.model_copy(
            update={
                "step": step + 1,
                "num_tokens": self.state.num_tokens + num_tokens,
                "num_text_tokens": self.state.num_text_tokens + num_text_tokens,
                "seconds": self.state.seconds + seconds,
                "last_loss": step_loss.loss,
            }
        )
        return self._line(step_loss, position.phase, learning_rate, gradient_norm, num_tokens / seconds)

    def _line(
        self, loss: StepLoss, phase: int, learning_rate: float, gradient_norm: float, tokens_per_second: float
    ) -> dict[str, float]:
        peak = self.run.engine.matmul_flops_per_second * self.run.engine.num_ranks
        return {
            "tokens": self.state.num_tokens,
            "words": self.run.word_marks.words(self.state.num_text_tokens),
            "seconds": round(self.state.seconds, 3),
            "phase": phase,
            "progress": self.state.step / self.run.course.num_steps,
            "loss": loss.loss,
            **loss.means,
            "learning_rate": learning_rate,
            "gradient_norm": gradient_norm,
            "tokens_per_second": round(tokens_per_second, 1),
            "utilisation": round(self.run.flops_per_token[phase] * tokens_per_second / peak, 4),
        }

    def _stepper_of(self, phase: int) -> Stepper:
        if self._stepper is None or self._stepper[0] != phase:
            run = self.run
            run.model.freeze(run.recipe.phases[phase].freeze)
            model = PhaseModel(run.model.encoder, run.model.objectives[phase])
            model.train()
            stepper = Stepper(model, self.device, self.dtype, run.ranks, run.recipe.seed, run.engine.compiled)
            self._stepper = phase, stepper
        return self._stepper[1]

    def _measure(self, phase: int) -> dict[str, float]:
        """Ask the probes that are due, and note whether the model is the best so far."""
        names = self.run.probing.due(self.state.step)
        if not names:
            return {}
        values = self.run.probing.measure(names, self.run.model, phase, self.dtype)
        news: dict[str, float | int] = {"probe_seconds": self.state.probe_seconds + values["probe_seconds"]}
        best, loss = self.state.lowest_held_out_loss, values.get(BEST_BY)
        if loss is not None and (best is None or loss < best):
            news |= {"best_step": self.state.step, "lowest_held_out_loss": loss, "num_probes_without_improvement": 0}
        elif loss is not None and phase >= max(self.run.recipe.measured_anew, default=0):
            news["num_probes_without_improvement"] = self.state.num_probes_without_improvement + 1
        self.state = self.state.model_copy(update=news)
        return values

    def _export_at_marks(self, text_tokens_before: int) -> None:
        """Export the model where the words seen came to a mark (rank 0 writes; all have the same weights)."""
        run = self.run
        folders = run.word_marks.reached(text_tokens_before, self.state.num_text_tokens)
        if folders and run.ranks.is_first:
            for folder in folders:
                heads = run.model.exported_heads(run.course.position_of(self.state.step - 1).phase)
                export_model(run.model.encoder, heads, run.tokenizer, folder)
                say(f"{run.word_marks.words(self.state.num_text_tokens):,} words seen: {folder}")
        if folders:
            run.ranks.wait()

    def _is_save_due(self) -> bool:
        settings = self.run.recipe.checkpoints
        by_steps = settings.every_steps is not None and self.state.step % settings.every_steps == 0
        is_late = settings.every_minutes is not None and time.monotonic() - self._saved_at > 60 * settings.every_minutes
        is_best = settings.keep_best and self.state.best_step == self.state.step
        return by_steps or is_best or self.run.ranks.any(is_late, self.device)

    def save(self) -> Path:
        """Save a checkpoint (rank 0 writes; all have the same weights) and return its path."""
        path = self.checkpoints.path(self.state.step)
        if self.state.step == self._saved_step:
            return path
        if self.run.ranks.is_first:
            self.checkpoints.save(self.run.model.tensors(), self.run.optimizers.state_tensors(), self.state)
        self.run.ranks.wait()
        self._saved_at, self._saved_step = time.monotonic(), self.state.step
        return path

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
        )


def _num_tokens(batch: CorruptedBatch) -> int:
    return batch.clean.num_real_tokens


def _num_text_tokens(batch: CorruptedBatch) -> int:
    return batch.clean.num_text_tokens
