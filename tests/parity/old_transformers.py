"""Loads an exported folder with whatever transformers is on the path and compares logits with those of the newest.

Run by `test_transformers_versions.py` in a process of its own: python old_transformers.py FOLDER
"""

import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer


def main(folder: Path) -> None:
    """Print the version and the largest difference."""
    sample = load_file(folder / "sample.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    ids = tokenizer("w1 [MASK] w3")["input_ids"]
    assert ids == sample["text_ids"].tolist(), ids
    with torch.no_grad():
        logits = model(input_ids=sample["input_ids"], attention_mask=sample["attention_mask"]).logits
    is_real = sample["attention_mask"].bool()
    print(transformers.__version__, float((logits - sample["logits"])[is_real].abs().max()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
