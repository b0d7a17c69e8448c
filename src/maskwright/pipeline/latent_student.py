"""The student of a run that was taught by atoms: what it predicts for a masked word, and what it was taught by."""

from dataclasses import dataclass
from pathlib import Path

import torch

from maskwright.batching.pack import pack_sequences
from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.hardware import default_device
from maskwright.core.records.run import record_of
from maskwright.core.records.semantics import Context, Profile
from maskwright.heads.latent import LatentHead
from maskwright.models.teacher import Teacher
from maskwright.models.trained import TrainedModel
from maskwright.objectives.terms.atoms import Atoms, AtomsConfig
from maskwright.semantics.describe.profiles import TokenizedWord, profile_of_weights
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.phase_teacher import PHASE_BEFORE
from maskwright.training.model import build_model
from maskwright.training.phases import read_model
from maskwright.training.trained_run import TrainedRun, open_run


@dataclass(frozen=True)
class LatentStudent:
    """A run's encoder with its head over atoms, from the checkpoint that was exported.

    Attributes:
        run: with that checkpoint's weights, on the best device of this machine; the newest before there is an export.
        phase: of the checkpoint, counted from 0; its targets are codes over a dictionary in a folder.
        options: of that phase's term.
        head: over its atoms.
    """

    run: TrainedRun
    phase: int
    options: AtomsConfig
    head: LatentHead

    @classmethod
    def of_run(cls, path: Path) -> "LatentStudent":
        """Read the student of a run.

        Raises:
            RecipeError: the checkpoint's phase has no such targets.
            CheckpointError: there is no run, or no whole checkpoint.
        """
        run = open_run(path, "exported" if record_of(path).export else "newest")
        run.model.root().to(default_device()).eval()
        for part in run.model.objective.modules():
            if isinstance(part, Atoms):
                return cls(run, run.phase, part.config, part.head)
        raise RecipeError(
            f"{path} has no atoms that were described in phase {run.phase + 1}, which its checkpoint is of",
            "a checkpoint of a phase with the term atoms",
            f"make a dictionary of its model: maskwright dictionary {path} --out FOLDER",
        )

    @property
    def dictionary_folder(self) -> Path:
        """Where the dictionary of the targets is."""
        folder = self.options.dictionary.folder
        return Path(folder) if folder is not None else self.run.folder.phase(self.phase) / "dictionary"

    def teacher(self) -> Teacher:
        """Return what the student was taught by.

        Raises:
            CheckpointError: it is not the model that the dictionary was learned from.
            ExportError: it is not where it was.
        """
        options, device = self.options, default_device()
        provenance = Dictionary.load(self.dictionary_folder).provenance
        if options.teacher == PHASE_BEFORE:
            before = build_model(self.run.recipe, self.run.vocabulary, self.phase - 1)
            like = TrainedModel(before.encoder, before.vocabulary_head, self.run.vocabulary, "")
            teacher = Teacher.load(self.run.folder.phase(self.phase), like, device, torch.float32)
        else:
            teacher = Teacher(read_model(Path(options.teacher)), options.layer, options.teacher, device, torch.float32)
        if (teacher.sha256, teacher.layer) != (provenance.teacher_sha256, provenance.layer):
            raise CheckpointError(
                f"the teacher {teacher.name} has other weights or another layer ({teacher.sha256[:12]}..., "
                f"{teacher.layer}) than its dictionary was learned from",
                f"the weights {provenance.teacher_sha256[:12]}... and layer {provenance.layer}",
                "put the model back that the run was taught by",
            )
        return teacher

    @torch.no_grad()
    def profile(self, word: TokenizedWord, context: Context, num_atoms: int) -> Profile:
        """Return the atoms that the student predicts for a word when all of its tokens are masked.

        Args:
            word: its text's tokens, and which are the word's.
            context: the word where it stands.
            num_atoms: strongest atoms to keep.
        """
        token_ids = word.token_ids.copy()
        token_ids[word.positions] = self.run.vocabulary.mask_id
        device = self.run.model.encoder.embedding_weight_VE.device
        batch = pack_sequences([token_ids], self.run.vocabulary, len(token_ids) + NUM_SPECIALS).to(device)
        x_TD = self.run.model.encoder(batch.input)
        positions = torch.from_numpy(word.positions + 1).to(device)  # [CLS] is position 0
        predicted_A = self.head(x_TD[positions]).float().softmax(1).mean(0)
        return profile_of_weights(predicted_A.double().cpu().numpy(), context, num_atoms)
