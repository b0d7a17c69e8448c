"""Fine-tuned models of ours give the logits of transformers' own classes with the same weights."""

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.fine_tuning.encoding import TextEncoder
from maskwright.evaluation.fine_tuning.loop import ComputeSettings, outputs
from maskwright.evaluation.fine_tuning.model import FineTunedModel, PositionHead, SequenceHead, TaskHead
from maskwright.evaluation.fine_tuning.questions import Questions

SHAPE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
    "pad_token_id": 0,
    "num_labels": 3,
    "initializer_range": 0.2,
}
TEXTS = [("w1 w2 w3",), ("w4",), (" ".join(f"w{number}" for number in range(40)),), ("w9 w8 w7 w6 w5 w4",)]


def saved(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> EvaluatedModel:
    model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    tokenizer.save_pretrained(folder)
    return EvaluatedModel(folder, device=torch.device("cpu"))


def ours(subject: EvaluatedModel, head: TaskHead, questions: Questions) -> torch.Tensor:
    encoder = subject.new_encoder()
    machine = ComputeSettings(
        subject.device, torch.float32, encoder.config.pad_token_id, encoder.config.max_positions, 64
    )
    return torch.from_numpy(outputs(FineTunedModel(encoder, head), questions, machine))


def theirs(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    inputs = tokenizer([text for (text,) in TEXTS], padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        return model.eval()(**inputs).logits


def seeded(build) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build()


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_classification(tokenizer, tmp_path, architecture):
    if architecture == "bert":
        model = seeded(lambda: BertForSequenceClassification(BertConfig(**SHAPE)))
        dense, out = model.bert.pooler.dense, model.classifier
    else:
        model = seeded(lambda: RobertaForSequenceClassification(RobertaConfig(**SHAPE)))
        dense, out = model.classifier.dense, model.classifier.out_proj
    head = SequenceHead(32, 3, 0.1, "first")
    head.dense.load_state_dict(dense.state_dict())
    head.out.load_state_dict(out.state_dict())
    sequences = TextEncoder(tokenizer, 64).encode(TEXTS)
    questions = Questions.ask_first_tokens(sequences, sequences.sizes)
    subject = saved(model, tokenizer, tmp_path / "model")
    torch.testing.assert_close(ours(subject, head, questions), theirs(model, tokenizer), atol=1e-4, rtol=0)


def test_token_classification(tokenizer, tmp_path):
    model = seeded(lambda: BertForTokenClassification(BertConfig(**SHAPE)))
    head = PositionHead(32, 3, 0.1)
    head.out.load_state_dict(model.classifier.state_dict())
    sequences = TextEncoder(tokenizer, 64).encode(TEXTS)
    sizes = sequences.sizes.tolist()
    asked = torch.cat([torch.arange(size) for size in sizes]).numpy()
    questions = Questions(sequences, asked, sequences.sizes, asked)
    expected = theirs(model, tokenizer)
    subject = saved(model, tokenizer, tmp_path / "model")
    real = torch.cat([expected[row, :size] for row, size in enumerate(sizes)])
    torch.testing.assert_close(ours(subject, head, questions), real, atol=1e-4, rtol=0)
