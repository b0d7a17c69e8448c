"""`maskwright dictionary`: latent semantic atoms from the hidden states of any encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class HowToLearn:
    """Of what text a dictionary is learned, and how.

    Attributes:
        data: the text: a file, folder, glob, hf:dataset/config/split or builtin:docstrings; may be given several times.
            Of a run folder, the run's own text by default.
        out: folder for the dictionary, its description and report.html.
        atoms: how many atoms (K); 3000 in the reference.
        penalty: weight of the L1 norm in the codes; 0.05 in the reference. The larger, the fewer atoms a token has.
        layer: whose hidden states: 0 is the embedding's output, -1 the last layer, -2 the one before.
        states: hidden states to learn from, a uniform sample of those that the text gives.
        tokens: tokens of text that the model reads for it, drawn from the whole text.
        updates: minibatches of learning, of 512 states each.
        sequence_length: tokens in a sequence, with specials; longer documents are cut. 128, or what the model takes.
        seed: of all that is drawn.
        corpora: folder for the prepared text; the folder `corpora` beside the dictionary by default.
    """

    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("dictionary")
    atoms: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 3000
    penalty: Annotated[float, tyro.conf.arg(name="lambda", metavar="FLOAT")] = 0.05
    layer: Annotated[int, tyro.conf.arg(metavar="INT")] = -1
    states: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 200_000
    tokens: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 1_000_000
    updates: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 800
    sequence_length: Annotated[int | None, tyro.conf.arg(metavar="TOKENS")] = None
    seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 1
    corpora: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None


def dictionary(model: Annotated[str, tyro.conf.arg(metavar="MODEL")], /, how: HowToLearn) -> None:
    """Learn a dictionary of latent semantic atoms from a model's hidden states, and describe the atoms.

    The hidden states of text are coded as sparse mixtures of atoms; `maskwright profile` shows the atoms of a word, and
    the objective mlsm trains a student to predict them. Stopped anywhere, the same command goes on near there.

    Args:
        model: a run folder, any Hugging Face model folder, or a model's name on the hub.
        how: from what text, how many atoms.
    """
    from maskwright.pipeline.learn_dictionary import learn
    from maskwright.reports import write_dictionary_report
    from maskwright.reports.terminal.print_semantics import print_dictionary

    learned = learn(model, how)
    print_dictionary(learned)
    print(f"dictionary: {how.out}")
    print(f"report:     {write_dictionary_report(how.out)}")
