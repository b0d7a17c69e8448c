"""A search that is under way: trials rung by rung, the better half going on, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskwright.core.errors import NonFiniteError, RecipeError
from maskwright.core.files import remove_folder, write_text_atomically
from maskwright.core.log import progress, say
from maskwright.core.records.run import RunFolder
from maskwright.core.records.tuning import TrialRecord, TuningRecord, tuning_path, valley_path
from maskwright.reports.tuning import valley_chart
from maskwright.tuning.grid import RATE_STEP, Candidate, Grid, best_settings
from maskwright.tuning.trial import TrialBar, TrialMaker

TRIALS = "trials"
"""The folder in that of the search with the trial that is under way."""


@dataclass
class Search:
    """A search that is under way.

    Attributes:
        maker: trains the trials.
        folder: of the search.
        record: what came of it so far.
    """

    maker: TrialMaker
    folder: Path
    record: TuningRecord

    @property
    def grid(self) -> Grid:
        """What is tried."""
        return self.maker.grid

    def run(self) -> TuningRecord:
        """Make the trials that are not made yet, and conclude."""
        self._require_same_corpus()
        say(in_words(self.record))
        with progress("tokens of all trials", self.grid.total) as advance:
            advance(self.record.spent_tokens)
            candidates = self.grid.candidates
            for rung in range(len(self.grid.rung_tokens)):
                for candidate in candidates:
                    self._see_through(candidate, rung, advance)
                while (beyond := self._beyond_the_edge(rung)) is not None:
                    self._see_through(beyond, rung, advance)
                best = [trial for trial in self.record.rung(rung) if trial.held_out_loss is not None]
                if not best:
                    raise NonFiniteError(
                        "every trial diverged",
                        "a learning rate at which the loss stays finite",
                        f"lower optimizer.learning_rate ({self.maker.recipe.optimizer.learning_rate:g}) and choose "
                        "another --run",
                    )
                num_going_on = 0 if rung + 1 == len(self.grid.rung_trials) else self.grid.rung_trials[rung + 1]
                candidates = [trial.candidate for trial in best[:num_going_on]]
        if self.maker.ranks.is_first:
            write_text_atomically(valley_path(self.folder), valley_chart(self.record))
            if (self.folder / TRIALS).exists():
                remove_folder(self.folder / TRIALS)
            say(f"picture: {valley_path(self.folder)}")
        settings = best_settings(self.maker.recipe, self.grid, self.record.best.candidate)
        self._note(status="finished", settings=settings, notes=self._notes())
        return self.record

    def _require_same_corpus(self) -> None:
        """Note the corpus, or refuse another one than the search was begun with."""
        found = self.maker.corpus.manifest.content_sha256
        if self.record.corpus_sha256 not in ("", found):
            raise RecipeError(
                f"the text has changed since the search in {self.folder} began", "the same text", "choose another --run"
            )
        self.maker.ranks.wait()  # until all have read the record that is written now
        self._note(corpus=str(self.maker.corpus.folder), corpus_sha256=found)

    def _note(self, **news: object) -> None:
        self.record = self.record.model_copy(update=news)
        if self.maker.ranks.is_first:
            self.record.write(tuning_path(self.folder))

    def _beyond_the_edge(self, rung: int) -> Candidate | None:
        """Return what comes next where the best of a rung has the highest or lowest rate that its batch was tried with.

        It depends on the trials up to this rung alone, so that a search that was stopped asks for the same.

        Returns:
            None if the best lies within, or the budget, less what the later rungs need, holds no more.
        """
        best = self.record.rung(rung)[0]
        so_far = [trial for trial in self.record.trials if trial.rung <= rung]
        rates = [trial.learning_rate for trial in so_far if trial.batch_tokens == best.batch_tokens]
        if best.held_out_loss is None or min(rates) < best.learning_rate < max(rates):
            return None
        later = sum(self.grid.planned(other) for other in range(rung + 1, len(self.grid.rung_tokens)))
        spent = sum(trial.num_tokens for trial in so_far)
        if spent + later + self.grid.given(best.batch_tokens, rung) > self.record.allowed_tokens:
            return None
        is_highest = best.learning_rate == max(rates)
        return best.learning_rate * (RATE_STEP if is_highest else 1 / RATE_STEP), best.batch_tokens

    def _see_through(self, candidate: Candidate, rung: int, advance: Callable[[float], None]) -> None:
        """Make a trial, unless it was made before."""
        if any(trial.rung == rung and trial.candidate == candidate for trial in self.record.trials):
            return
        rate, tokens = candidate
        given, label = self.grid.given(tokens, rung), f"rate {rate:.3g}, batch {tokens:,}"
        folder = RunFolder(self.folder / TRIALS / f"rung-{rung + 1}-rate-{rate!r}-batch-{tokens}")
        bar = TrialBar(advance, given)
        loss = self.maker.train(candidate, rung, folder, bar)
        bar.reach(1.0)
        done = TrialRecord(
            learning_rate=rate,
            batch_tokens=tokens,
            rung=rung,
            num_steps=sum(self.grid.steps(tokens, rung)),
            num_tokens=given,
            held_out_loss=loss,
        )
        self._note(trials=[*self.record.trials, done], spent_tokens=self.record.spent_tokens + given)
        self.maker.ranks.wait()
        if self.maker.ranks.is_first:
            remove_folder(folder.path)  # weights are large, and the record has all that counts
        outcome = "diverged" if loss is None else f"held-out loss {loss:.3f}"
        say(f"rung {rung + 1}, {label}, {done.num_steps:,} steps: {outcome}")

    def _notes(self) -> list[str]:
        """Return what a reader must know to judge the result."""
        record, best = self.record, self.record.best
        rates = [trial.learning_rate for trial in record.trials if trial.batch_tokens == best.batch_tokens]
        budget = record.budget_tokens
        notes = [
            f"Each trial is a whole run with the recipe's schedule, of {record.rung_tokens[0]:,} to "
            f"{best.num_tokens:,} tokens ({best.num_tokens / budget:.2%} of the budget of {budget:,}); one seed each. "
            f"The search took {record.spent_tokens:,} tokens, {record.spent_tokens / budget:.2%} of the budget.",
            "A rate carries over to the long run approximately, at the same batch. The best batch grows with the "
            "budget: that of the trials is a lower bound for the long run.",
        ]
        if not min(rates) < best.learning_rate < max(rates):
            which = "highest" if best.learning_rate == max(rates) else "lowest"
            notes.append(
                f"The best rate is the {which} that was tried with its batch, and the search may use no more: begin "
                "again from that rate, or with a larger --share."
            )
        if len(record.batches) == 1:
            notes.append("The budget holds no search over batches: the recipe's own was taken.")
        elif best.batch_tokens in (record.batches[0], record.batches[-1]):
            which = "smallest" if best.batch_tokens == record.batches[0] else "largest"
            notes.append(f"The best batch is the {which} that was tried.")
        own = self.maker.recipe.batch.tokens
        of_own = [trial for trial in record.trials if trial.batch_tokens == own and trial.held_out_loss is not None]
        if best.batch_tokens != own and of_own:
            longest = [trial for trial in record.rung(max(trial.rung for trial in of_own)) if trial in of_own]
            notes.append(
                f"With the recipe's own batch of {own:,}, the best rate was {longest[0].learning_rate:.3g}, in trials "
                f"of {longest[0].num_tokens:,} tokens."
            )
        return notes


def in_words(record: TuningRecord) -> str:
    """Return what a search will do, or what is left of it, in one line."""
    before = f"; {len(record.trials)} trials are made" if record.trials else ""
    return (
        f"{len(record.learning_rates)} learning rates from {record.learning_rates[0]:.3g} to "
        f"{record.learning_rates[-1]:.3g}, batches of {', '.join(f'{each:,}' for each in record.batches)} tokens; "
        f"{' + '.join(map(str, record.rung_trials))} trials of {record.rung_tokens[0]:,} to "
        f"{record.rung_tokens[-1]:,} tokens, {record.share:.3g} of the budget at most{before}"
    )
