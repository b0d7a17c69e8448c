"""Models by their name on the Hugging Face hub: what is such a name, and fetching one into the local cache."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from maskwright.core.errors import EvaluationError
from maskwright.core.log import say

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""A name on the hub: `roberta-base`, or `organisation/name`."""

NEEDED_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model", "bpe.codes"),
)
"""Configuration, weights in the safetensors format, and tokenizer; nothing else of a repository is fetched."""


def is_hub_name(model: str | Path) -> bool:
    """Return whether a model's name is none of a file or folder here and may be one on the hub."""
    return bool(NAME.fullmatch(str(model))) and not Path(model).exists()


def downloaded(name: str) -> Path:
    """Return the local folder of a model on the hub; what the cache has is not fetched again.

    Raises:
        EvaluationError: there is no such model, or no way to the hub.
    """
    say(f"fetching {name} from the Hugging Face hub, or from its cache on this machine")
    try:
        return Path(snapshot_download(name, allow_patterns=list(NEEDED_FILES)))
    except (HfHubHTTPError, HFValidationError) as error:
        raise EvaluationError(
            f"{name} is no folder here, and the Hugging Face hub does not give it out: {str(error).splitlines()[0]}",
            "a model folder, or the name of a public model on the hub",
            "check the name; for a model with restricted access: hf auth login",
        ) from error
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise EvaluationError(
            f"{name} is no folder here, and the Hugging Face hub can't be reached",
            "a model folder, or a network",
            f"on a machine with a network: hf download {name} --local-dir FOLDER; then name that folder",
        ) from error


def hub_name_of(folder: Path) -> str | None:
    """Return the name of a model in the hub's cache (`models--organisation--name/snapshots/...`), else None."""
    if folder.parent.name != "snapshots":
        return None
    kind, _, name = folder.parent.parent.name.partition("--")
    return name.replace("--", "/") if kind == "models" else None
