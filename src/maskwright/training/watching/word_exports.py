"""Exports the model of a run where the words seen come to a mark."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from maskwright.core.log import say
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.export import export_model
from maskwright.training.safety.non_finite import require_finite
from maskwright.training.watching.watcher import StepDone, Watcher
from maskwright.training.watching.word_checkpoints import WordMarks


@dataclass(frozen=True)
class WordExports(Watcher):
    """Exports at marks.

    Attributes:
        marks: when, and to which folders.
        tokenizer: goes into the exports.
        folder: of the run.
        ranks: the first writes; all have the same weights.
    """

    marks: WordMarks
    tokenizer: PreTrainedTokenizerFast
    folder: RunFolder
    ranks: Ranks

    def after_step(self, step: StepDone) -> None:
        folders = self.marks.reached(step.before.num_text_tokens, step.state.num_text_tokens)
        if folders:
            require_finite(step.model.tensors(), step.state.step, step.clean_step, self.folder.path, self.ranks)
        if folders and self.ranks.is_first:
            for folder in folders:
                export_model(step.model.encoder, step.model.exported_heads(), self.tokenizer, folder)
                say(f"{self.marks.words(step.state.num_text_tokens):,} words seen: {folder}")
        if folders:
            self.ranks.wait()
