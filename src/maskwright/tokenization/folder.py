"""Load and save tokenizers as folders that every `AutoTokenizer` reads."""

import json
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from maskwright.core.errors import CorpusError
from maskwright.core.files import write_json_atomically, write_text_atomically
from maskwright.core.integrity import warn_of_changes
from maskwright.tokenization.special_tokens import stateless

ROLE_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def load_tokenizer(folder_or_name: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a folder or the hub; no code of the folder is run.

    Raises:
        CorpusError: there is none, it is damaged, or it is not one of the `tokenizers` library.
    """
    folder = Path(folder_or_name)
    is_folder = folder.is_dir()
    is_path = isinstance(folder_or_name, Path) or folder_or_name.startswith(("/", ".", "~"))
    if is_path and not is_folder:
        raise CorpusError(f"{folder_or_name} does not exist", "a folder with a tokenizer.json")
    if is_folder:
        warn_of_changes(folder, is_of_tokenizer)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder_or_name), trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CorpusError(
            f"no tokenizer could be loaded from {folder_or_name}: {str(error).strip().splitlines()[0]}",
            "a folder with a tokenizer.json" + ("" if is_folder else ", or the name of a tokenizer on the hub"),
            "copy or save the tokenizer again" if is_folder else "check the name and, for the hub, the network",
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise CorpusError(
            f"{folder_or_name} holds a {type(tokenizer).__name__}, written in Python",
            "a tokenizer of the `tokenizers` library (a tokenizer.json)",
            "convert it, or train a new one (leave `existing` out)",
        )
    return tokenizer


def is_of_tokenizer(name: str) -> bool:
    """Return whether a file of a model folder belongs to its tokenizer, by its name."""
    return name.startswith("tokenizer")


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` in the form that old and new transformers load.

    transformers 5 names a class of its own in `tokenizer_config.json`, which 4.x does not know; the name written here
    is known to both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    roles = {role: str(token) for role in ROLE_NAMES if (token := getattr(tokenizer, role)) is not None}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": tokenizer.model_max_length,
        "model_input_names": list(tokenizer.model_input_names),
        **roles,
    }
    write_text_atomically(folder / "tokenizer.json", json_with_one_line_per_token(stateless(tokenizer).to_str()))
    write_json_atomically(folder / "tokenizer_config.json", settings)


def json_with_one_line_per_token(text: str) -> str:
    """Return JSON indented, so that it can be read and compared."""
    return json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
