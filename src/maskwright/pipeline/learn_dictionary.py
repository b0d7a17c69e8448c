"""From the arguments of `maskwright dictionary` to a dictionary: the model, its text, and what is learned."""

from pathlib import Path

from pydantic import ValidationError

from maskwright.core.errors import RecipeError
from maskwright.core.files import make_folder
from maskwright.core.hardware import default_device, fastest_dtype
from maskwright.core.records.run import RunFolder, record_of
from maskwright.core.records.semantics import ATOMS, AtomsRecord
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import preparation_key, prepare
from maskwright.models.teacher import Teacher
from maskwright.pipeline.locate import model_folder_of
from maskwright.pipeline.verb_options import LearningOptions
from maskwright.reports.html import write_dictionary_report
from maskwright.reports.terminal.print_semantics import print_dictionary
from maskwright.semantics.make_dictionary import SampleOptions, make_dictionary
from maskwright.semantics.sparse_coding.dictionary_learning import DictionaryConfig
from maskwright.tokenization.train_tokenizer import TokenizerConfig
from maskwright.training.phases import read_model
from maskwright.training.run import corpus_folder_of

SEQUENCE_LENGTH = 128
"""Longer sequences of a model are left alone: the context of a sentence or two is what atoms are learned from."""

CPU_TOKENS, GPU_TOKENS = 4096, 16384
"""Tokens that pass through the model at once."""


def dictionary(model: str | Path, options: LearningOptions) -> AtomsRecord:
    """Learn a dictionary, describe it, show the atoms and draw its report; return the description.

    Raises:
        MaskwrightError: see `learn`.
    """
    learned = learn(str(model), options)
    print_dictionary(learned)
    print(f"dictionary: {options.out}")
    print(f"report:     {write_dictionary_report(options.out)}")
    return learned


def learn(model: str, how: LearningOptions) -> AtomsRecord:
    """Learn the dictionary and return its description; see `cli.dictionary.dictionary`.

    Raises:
        RecipeError: a value that can't be used.
        CorpusError: the text can't be read, or is too little.
        ExportError: there is no such model.
        CheckpointError: the folder holds another dictionary.
    """
    folder = model_folder_of(model)
    try:
        config = DictionaryConfig(num_atoms=how.atoms, penalty=how.penalty, num_updates=how.updates)
        sample = SampleOptions(num_states=how.states, num_tokens=how.tokens)
    except ValidationError as error:
        first = error.errors()[0]
        name = {"num_atoms": "atoms", "penalty": "lambda", "num_updates": "updates", "num_states": "states"}
        given = str(first["loc"][0])
        raise RecipeError(f"--{name.get(given, 'tokens')} {first['input']}", first["msg"].lower()) from error
    trained = read_model(folder)
    most = trained.encoder.config.max_positions
    length = how.sequence_length or min(SEQUENCE_LENGTH, most)
    if not 8 <= length <= most:
        raise RecipeError(f"--sequence-length {length}", f"8 to {most:,}, as long as the model's sequences")
    device = default_device()
    teacher = Teacher(trained, how.layer, str(model), device, fastest_dtype(device))
    make_folder(how.out)
    corpus = text_of(Path(model), folder, how)
    micro_batch_tokens = max(length, CPU_TOKENS if device.type == "cpu" else GPU_TOKENS)
    make_dictionary(how.out, corpus, teacher, config, sample, length, micro_batch_tokens, how.seed)
    return AtomsRecord.read(how.out / ATOMS)


def text_of(path: Path, model_folder: Path, how: LearningOptions) -> Corpus:
    """Return the text, prepared with the model's own tokenizer: what `--data` names, or a run's own.

    Raises:
        RecipeError: no text is named, and the model is no run.
        CorpusError: the text can't be read.
    """
    if not how.data:
        if not RunFolder(path).run_record.exists():
            raise RecipeError(
                f"no text was named for {path}", "--data with files, a folder, a glob or hf:dataset/config/split"
            )
        return open_corpus(corpus_folder_of(record_of(path), path), verify=True)
    data = DataConfig(data=how.data[0] if len(how.data) == 1 else how.data)
    tokenizer = TokenizerConfig(existing=str(model_folder))
    corpora = how.corpora or how.out.resolve().parent / "corpora"
    folder = corpora / preparation_key(data, tokenizer, how.seed)
    prepare(data, tokenizer, folder, how.seed)
    return open_corpus(folder, verify=True)
