"""Exported folders load in the transformers of years ago, with the same logits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.export import export_model
from maskwright.heads.vocabulary import VocabularyHead

ROOT = Path(__file__).parents[2]
VERSION = "4.51.3"
OVERLAY = ROOT / ".venv" / f"compat-{VERSION}"


@pytest.mark.skipif(
    not OVERLAY.is_dir(), reason=f"{OVERLAY} is absent: make compat installs transformers {VERSION} there"
)
@pytest.mark.parametrize("family", ["modernbert", "bert", "electra", "albert", "deberta", "deberta_v2"])
def test_an_exported_folder_gives_the_same_logits_in_an_old_transformers(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    vocabulary = Vocabulary(
        100, pad_id=0, cls_id=2, sep_id=3, mask_id=4, unk_id=1, special_ids=(0, 1, 2, 3, 4), sha256="0"
    )
    shape = {"num_layers": 4, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
    thetas = (
        {"global_rope_theta": 5e4, "local_rope_theta": 3e3, "local_attention": 20} if family == "modernbert" else {}
    )
    narrow = {"embedding_size": 16} if family in ("electra", "albert") else {}
    encoder = build_encoder(family, None, shape | thetas | narrow | {"initializer_range": 0.2}, vocabulary, 200, seed=0)
    export_model(encoder, {"vocabulary": VocabularyHead(encoder.config)}, tokenizer, tmp_path)

    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(5, 100, (2, 150), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 60:] = 0
    with torch.no_grad():
        logits = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()(input_ids, attention_mask).logits
    text_ids = torch.tensor(AutoTokenizer.from_pretrained(tmp_path)("w1 [MASK] w3")["input_ids"])
    sample = {"input_ids": input_ids, "attention_mask": attention_mask, "logits": logits, "text_ids": text_ids}
    save_file(sample, tmp_path / "sample.safetensors")

    script = Path(__file__).with_name("old_transformers.py")
    environment = os.environ | {"PYTHONPATH": str(OVERLAY), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    version, difference = done.stdout.split()
    assert version == VERSION
    assert float(difference) < 1e-4
