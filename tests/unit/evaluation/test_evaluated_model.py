"""A subject is any masked encoder: of ours, of transformers, or named on the hub; its scores are transformers' own."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import processors
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PreTrainedTokenizerFast

from maskwright.core.errors import EvaluationError, ExportError
from maskwright.core.files import sha256_of_file
from maskwright.encoders.families.hugging_face import HuggingFace
from maskwright.encoders.families.modernbert import Modernbert
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.fill import fill_masks
from maskwright.evaluation.scorer import Cloze, MaskedLanguageModel
from maskwright.export import hub
from maskwright.export.folder import export_model
from maskwright.export.foreign import import_foreign
from maskwright.tokenization.folder import save_tokenizer

CPU = torch.device("cpu")
SaveForeign = Callable[..., Path]


def framed(tokenizer: PreTrainedTokenizerFast, **roles: str | None) -> PreTrainedTokenizerFast:
    """Return the tokenizer with other roles."""
    changed = copy.deepcopy(tokenizer)
    for role, token in roles.items():
        setattr(changed, role, token)
    changed.backend_tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", tokenizer.sep_token_id), ("[CLS]", tokenizer.cls_token_id)
    )
    return changed


@pytest.fixture
def save_foreign(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> SaveForeign:
    """Return a function that saves a small model of transformers with its tokenizer."""

    def save(model_type: str, body_only: bool = False, with_mask: bool = True, **options: Any) -> Path:
        shape = {"vocab_size": len(tokenizer) + 20, "hidden_size": 32, "num_hidden_layers": 2}
        shape |= {"num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 66}
        config = AutoConfig.for_model(model_type, **(shape | {"pad_token_id": tokenizer.pad_token_id} | options))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = (AutoModel if body_only else AutoModelForMaskedLM).from_config(config)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        folder = tmp_path / model_type
        model.save_pretrained(folder)
        save_tokenizer(tokenizer if with_mask else framed(tokenizer, mask_token=None), folder)
        return folder

    return save


def reference_nats(folder: Path, subject: EvaluatedModel, clozes: list[Cloze]) -> list[float]:
    """Return minus the log-probabilities that transformers gives, one unpadded sequence at a time."""
    theirs = AutoModelForMaskedLM.from_pretrained(folder).eval()
    nats = []
    for cloze in clozes:
        ids = [subject.tokenizer.cls_token_id, *cloze.token_ids, subject.tokenizer.sep_token_id]
        with torch.no_grad():
            log_probabilities = theirs(torch.tensor([ids])).logits[0].log_softmax(-1)
        pairs = zip(cloze.positions, cloze.target_ids, strict=True)
        nats += [-log_probabilities[position + 1, target].item() for position, target in pairs]
    return nats


def random_clozes(tokenizer: PreTrainedTokenizerFast, lengths: list[int]) -> list[Cloze]:
    """Return sequences with one or two hidden tokens, and the first token asked of [CLS]."""
    generator = np.random.default_rng(3)
    clozes = []
    for length in lengths:
        token_ids = generator.integers(5, len(tokenizer), length)
        positions = np.unique(generator.integers(0, length, 2))
        masked = token_ids.copy()
        masked[positions] = tokenizer.mask_token_id
        clozes.append(Cloze(masked, np.append(positions, -1), np.append(token_ids[positions], token_ids[0])))
    return clozes


@pytest.mark.parametrize("model_type", ["roberta", "albert", "camembert", "distilbert"])
def test_scores_of_a_foreign_model_are_those_of_transformers(save_foreign: SaveForeign, model_type: str):
    options = {"dim": 32, "hidden_dim": 48} if model_type == "distilbert" else {}
    folder = save_foreign(model_type, **options)
    subject = EvaluatedModel(folder, device=CPU)
    clozes = random_clozes(subject.tokenizer, [3, 9, 9, 9, 20, 1, 40])
    scores = list(subject.masked_language_model.score(clozes))
    nats = np.concatenate([part.nats for part in scores])
    np.testing.assert_allclose(nats, reference_nats(folder, subject, clozes), atol=1e-4)
    assert isinstance(subject.new_encoder(), HuggingFace)


def test_scores_of_one_of_ours_are_those_of_transformers(model: MaskedLanguageModel, tmp_path: Path):
    export_model(model.encoder, {"vocabulary": model.head}, model.tokenizer, tmp_path / "model")
    subject = EvaluatedModel(tmp_path / "model", device=CPU)
    clozes = random_clozes(subject.tokenizer, [5, 5, 5, 5, 30, 31])
    nats = np.concatenate([part.nats for part in subject.masked_language_model.score(clozes, with_ranks=False)])
    np.testing.assert_allclose(nats, reference_nats(tmp_path / "model", subject, clozes), atol=1e-4)
    assert isinstance(subject.new_encoder(), Modernbert)
    assert subject.sha256 == sha256_of_file(tmp_path / "model" / "model.safetensors")


def test_options_that_our_family_refuses_come_in_through_transformers(
    save_foreign: SaveForeign, capfd: pytest.CaptureFixture[str]
):
    folder = save_foreign("bert", hidden_act="relu")
    capfd.readouterr()
    subject = EvaluatedModel(folder, device=CPU)
    clozes = random_clozes(subject.tokenizer, [7, 12])
    (scores,) = subject.masked_language_model.score(clozes)
    np.testing.assert_allclose(scores.nats, reference_nats(folder, subject, clozes), atol=1e-4)
    said = capfd.readouterr().err
    assert "BertForMaskedLM" in said and "hidden_act is 'relu'" in said


def test_transformers_reports_do_not_reach_the_user(save_foreign: SaveForeign, capfd: pytest.CaptureFixture[str]):
    folder = save_foreign("roberta", body_only=True)
    capfd.readouterr()
    EvaluatedModel(folder, device=CPU).new_encoder()
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and "no family of ours has the model_type 'roberta'" in err


def test_every_new_encoder_has_the_pretrained_weights(save_foreign: SaveForeign):
    subject = EvaluatedModel(save_foreign("roberta"), device=CPU)
    first = subject.new_encoder()
    before = {name: weight.clone() for name, weight in first.state_dict().items()}
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    second = subject.new_encoder()
    assert all(torch.equal(weight, before[name]) for name, weight in second.state_dict().items())
    of_scorer = subject.masked_language_model.encoder.state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in of_scorer.items())


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_dropout_is_set_where_the_architecture_has_it(
    save_foreign: SaveForeign, model: MaskedLanguageModel, tmp_path: Path, dropout: float
):
    foreign = EvaluatedModel(save_foreign("roberta"), device=CPU)
    rates = {part.p for part in foreign.new_encoder(dropout).modules() if isinstance(part, nn.Dropout)}
    assert rates == {dropout}
    assert {part.p for part in foreign.new_encoder().modules() if isinstance(part, nn.Dropout)} == {0.1}

    export_model(model.encoder, {"vocabulary": model.head}, model.tokenizer, tmp_path / "ours")
    options = EvaluatedModel(tmp_path / "ours", device=CPU).new_encoder(dropout).config.model_dump()
    rates = {name: value for name, value in options.items() if name.endswith("dropout")}
    assert len(rates) == 3 and set(rates.values()) == {dropout}


def test_the_limit_is_the_smaller_of_model_and_tokenizer(save_foreign: SaveForeign, tokenizer: PreTrainedTokenizerFast):
    folder = save_foreign("roberta", pad_token_id=1)
    assert EvaluatedModel(folder, device=CPU).limit_tokens == 64, "66 positions, two of them before the first"
    save_tokenizer(framed(tokenizer, model_max_length=20), folder)  # pyright: ignore[reportArgumentType]
    subject = EvaluatedModel(folder, device=CPU)
    assert subject.limit_tokens == 20
    assert subject.masked_language_model.max_tokens == 62


def test_without_mask_token_or_head_there_is_an_encoder_but_no_scorer(save_foreign: SaveForeign):
    subject = EvaluatedModel(save_foreign("roberta", with_mask=False), device=CPU)
    assert subject.new_encoder().config.hidden_size == 32
    with pytest.raises(EvaluationError, match=r"no mask token[\s\S]*fine-tune"):
        _ = subject.masked_language_model
    subject = EvaluatedModel(save_foreign("electra", body_only=True), device=CPU)
    assert subject.new_encoder().config.hidden_size == 32
    with pytest.raises(EvaluationError, match=r"no trained vocabulary head[\s\S]*fine-tune"):
        _ = subject.masked_language_model


def test_tokens_beyond_the_models_embeddings_are_refused_where_they_occur(
    save_foreign: SaveForeign, tokenizer: PreTrainedTokenizerFast
):
    model = EvaluatedModel(save_foreign("roberta", vocab_size=len(tokenizer) - 1), device=CPU).masked_language_model
    fine, last = np.array([7, 8]), np.array([7, len(tokenizer) - 1])
    assert len(list(model.score([Cloze(fine, np.array([0]), fine[:1])]))) == 1
    for cloze in (Cloze(last, np.array([0]), fine[:1]), Cloze(fine, np.array([0]), last[1:])):
        with pytest.raises(EvaluationError, match="as many as the model has embeddings"):
            list(model.score([cloze]))
    assert len(fill_masks(model, "The court [MASK] the appeal.").guesses[0]) == 5


def test_masks_are_filled_by_a_foreign_model_with_tokens_that_its_tokenizer_has(save_foreign: SaveForeign):
    subject = EvaluatedModel(save_foreign("roberta"), device=CPU)
    ((*guesses,),) = fill_masks(subject.masked_language_model, "The court <mask> the appeal.", top=400).guesses
    assert max(guess.token_id for guess in guesses if guess.probability) < len(subject.tokenizer)


def test_fill_takes_a_foreign_folder(save_foreign: SaveForeign, maskwright: Callable[..., Any]):
    said = maskwright("fill", save_foreign("roberta"), "The court [MASK] the appeal.", "--top", "3")
    assert said.code == 0, said.err
    assert said.out.count("%") == 3
    said = maskwright("fill", save_foreign("electra", body_only=True), "The court [MASK] the appeal.")
    assert (said.code, said.out) == (EvaluationError.exit_code, "")
    assert "no trained vocabulary head" in said.err and "Traceback" not in said.err


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def test_damaged_folders_are_refused(save_foreign: SaveForeign, tmp_path: Path):
    def without(word: str):
        return lambda tensors: {name: tensor for name, tensor in tensors.items() if word not in name}

    folder = save_foreign("roberta")
    edit_weights(folder, without("layer.1.output.dense.weight"))
    with pytest.raises(ExportError, match=r"lack roberta\.encoder\.layer\.1\.output\.dense\.weight"):
        import_foreign(folder)
    folder = save_foreign("roberta")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(ExportError, match=r"no layer for the tensor roberta\.encoder\.layer\.1\."):
        import_foreign(folder)
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(ExportError, match=r"can't be read as a roberta model"):
        import_foreign(folder)
    (folder / "config.json").write_text(json.dumps(config))
    edit_weights(folder, lambda tensors: {name: tensor * float("nan") for name, tensor in tensors.items()})
    with pytest.raises(ExportError, match="finite weights"):
        import_foreign(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ExportError, match=r"has no model\.safetensors"):
        import_foreign(folder)


@pytest.mark.parametrize(("model_type", "message"), [("bart", "is no encoder"), ("gpt2", "is no encoder")])
def test_models_that_are_no_masked_encoders_are_refused(tmp_path: Path, model_type: str, message: str):
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ExportError, match=message):
        EvaluatedModel(tmp_path, device=CPU).new_encoder()


def test_code_in_the_folder_is_not_run(tmp_path: Path):
    values = {"model_type": "own", "auto_map": {"AutoConfig": "code.Own", "AutoModelForMaskedLM": "code.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "code.py").write_text("raise SystemExit('it was run')")
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ExportError, match="without code of the folder's own"):
        EvaluatedModel(tmp_path, device=CPU).new_encoder()


def test_weights_in_several_files_have_one_checksum(save_foreign: SaveForeign):
    folder = save_foreign("roberta")
    expected = EvaluatedModel(folder, device=CPU).new_encoder().state_dict()
    model = AutoModelForMaskedLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 2
    subject = EvaluatedModel(folder, device=CPU)
    assert all(torch.equal(weight, expected[name]) for name, weight in subject.new_encoder().state_dict().items())
    before = subject.sha256
    edited = {name: tensor + 1 for name, tensor in load_file(files[-1]).items()}
    save_file(edited, files[-1], metadata={"format": "pt"})
    assert EvaluatedModel(folder, device=CPU).sha256 != before
    files[0].unlink()
    with pytest.raises(ExportError, match="does not exist"):
        _ = EvaluatedModel(folder, device=CPU).sha256


def test_a_name_on_the_hub_is_fetched_without_what_is_not_needed(
    save_foreign: SaveForeign, monkeypatch: pytest.MonkeyPatch
):
    folder, asked = save_foreign("roberta"), []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    subject = EvaluatedModel("some-org/some-model", device=CPU)
    assert (subject.name, subject.folder, subject.folder) == ("some-org/some-model", folder, folder)
    ((name, patterns),) = asked
    assert name == "some-org/some-model"
    assert not {"*", "*.bin", "*.safetensors", "*.py"} & set(patterns)


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EvaluationError, match=r"can't be reached[\s\S]*hf download roberta-base"):
        _ = EvaluatedModel("roberta-base", device=CPU).folder


def test_names_on_the_hub_and_paths_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert all(hub.is_hub_name(name) for name in ("roberta-base", "org/name", "org/name-v1.5_x", Path("org/name")))
    assert not any(hub.is_hub_name(name) for name in ("runs/mine", "./model", "/a/b", "a/b/c", "../x", "~/x", ""))
    cached = Path("/cache/models--org--name/snapshots/0123")
    assert hub.hub_name_of(cached) == "org/name"
    assert hub.hub_name_of(tmp_path) is None


def test_a_model_is_called_by_its_run_or_folder(tmp_path: Path):
    for folder in ("alone", "runs/mine/model"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs/mine/run.json").write_text("{}")
    assert EvaluatedModel(tmp_path / "alone").name == "alone"
    assert EvaluatedModel(tmp_path / "runs/mine/model").name == "mine"
