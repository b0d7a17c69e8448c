"""From the arguments of `maskwright profile` to profiles: the teacher, the dictionary, the texts and the student."""

from collections.abc import Sequence
from pathlib import Path

import torch

from maskwright.core.errors import CheckpointError, ExportError, RecipeError
from maskwright.core.hardware import default_device
from maskwright.core.records.run import record_of
from maskwright.core.records.semantics import ATOMS, AtomsRecord, ProfiledWords
from maskwright.models.teacher import Teacher
from maskwright.pipeline.latent_student import LatentStudent
from maskwright.pipeline.locate import model_folder_of
from maskwright.semantics.describe.profiles import Profiler, marked_words
from maskwright.semantics.dictionary import FILE_NAME, Dictionary
from maskwright.tokenization.folder import load_tokenizer
from maskwright.training.phases import read_model


def profile(
    source: Path, texts: Sequence[str], *, model: str | None = None, top: int = 8, num_contexts: int = 2
) -> tuple[ProfiledWords, int]:
    """Return the profiles of all bracketed words, and how many contexts to show; see `cli.profile.profile`.

    Raises:
        RecipeError: a value is out of range; and what `profiled_words` raises.
    """
    if top < 1 or num_contexts < 0:
        raise RecipeError(f"--top {top} --contexts {num_contexts}", "1 or more atoms, 0 or more contexts")
    return profiled_words(source, texts, model, top), num_contexts


def profiled_words(source: Path, texts: Sequence[str], model: str | None, top: int) -> ProfiledWords:
    """Return the profiles of all bracketed words; see `cli.profile.profile` for the arguments.

    Raises:
        RecipeError: a text can't be used, or `source` is a run without atoms.
        CheckpointError: there is no such run or dictionary, or the model is not the one it was learned from.
        ExportError: the model can't be loaded.
    """
    words = [word for text in texts for word in marked_words(text)]
    if (source / FILE_NAME).is_file():
        folder, student = source, None
        teacher, model_folder = _teacher_of_dictionary(Dictionary.load(source), model, source)
        tokenizer = load_tokenizer(model_folder)
    else:
        if model is not None:
            record_of(source)
            raise RecipeError("--model with a run", "--model with a dictionary alone: a run knows its teacher")
        student = LatentStudent.of_run(source)
        folder, teacher = student.dictionary_folder, student.teacher()
        tokenizer = student.run.tokenizer
    dictionary = Dictionary.load(folder)
    profiler = Profiler(teacher, dictionary, tokenizer)
    profiles = [profiler.profile(word, top) for word in words]
    predicted = None
    if student is not None:
        tokens = [profiler.tokens_of(word) for word in words]
        predicted = [student.profile(each, word.context, top) for each, word in zip(tokens, words, strict=True)]
    return ProfiledWords(description_of(folder, dictionary), profiles, predicted)


def description_of(folder: Path, dictionary: Dictionary) -> AtomsRecord:
    """Read what a dictionary's atoms mean.

    Raises:
        CheckpointError: it was not described, or is another dictionary's description.
    """
    record = AtomsRecord.read(folder / ATOMS)
    if record.dictionary_sha256 != dictionary.sha256:
        raise CheckpointError(
            f"{folder / ATOMS} describes another dictionary than {folder / FILE_NAME}",
            "the two as they were written together",
            "make the dictionary again",
        )
    return record


def _teacher_of_dictionary(dictionary: Dictionary, model: str | None, folder: Path) -> tuple[Teacher, Path]:
    """Return the model that a dictionary was learned from, and the folder with its tokenizer."""
    provenance = dictionary.provenance
    name = model or provenance.teacher
    try:
        model_folder = model_folder_of(name)
    except ExportError as error:
        raise ExportError(
            f"the model of {folder} can't be loaded: {error.got}",
            f"the model that it was learned from, {provenance.teacher}",
            "say where it is: --model MODEL",
        ) from error
    trained = read_model(model_folder)
    if trained.sha256 != provenance.teacher_sha256:
        raise CheckpointError(
            f"{name} has other weights ({trained.sha256[:12]}...) than the model that {folder} was learned from",
            f"the weights {provenance.teacher_sha256[:12]}... of {provenance.teacher}",
            "say where they are: --model MODEL, or learn a dictionary from this model",
        )
    device = default_device()
    return Teacher(trained, provenance.layer, name, device, torch.float32), model_folder
