"""Compares our item scores with those of the BabyLM challenge's own package, run on the same exported folder.

    python benchmarks/babylm_parity.py CHECKOUT MODEL DATA [--pairs 3] [--python PATH] [--pythonpath FOLDER]

CHECKOUT is a clone of github.com/babylm/evaluation-pipeline-2025 (or `strict/` of babylm-org/babylm-eval), MODEL an
exported model folder, DATA the folder that holds `blimp_filtered`. The package runs in a process of its own, by the
interpreter of --python, with what it needs (torch, transformers, datasets, aiohttp, tqdm, scipy); --pythonpath puts
another transformers in front. Its code is not changed: the scores are caught where it compares the sentences of a pair.
For every backend, every pair is compared; then the folder is loaded as its fine-tuning does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BACKENDS = {"mlm": "original", "mntp": "mntp"}
"""The package's backends -> our modes."""

MOST_DIFFERENCE = 1e-4

OFFICIAL_SIDE = """
import argparse, json, pathlib, sys
import torch, transformers
checkout, model_path, data, out, backend = sys.argv[1:]
sys.path.insert(0, checkout)
from evaluation_pipeline.sentence_zero_shot import compute_results, dataset, run

scores = []
def catch(args, stats, log_probs, raw, labels, metadatas, uids, predictions):
    stacked = torch.stack(log_probs[1.0], dim=1)
    for pair, row in zip(raw, stacked.tolist()):
        scores.append([*pair["sentences"], *row])
compute_results.rank_and_evaluate = catch
args = argparse.Namespace(
    backend=backend, model_path_or_name=model_path, revision_name=None, data_path=pathlib.Path(data), task="blimp",
    images_path=None, image_template=None, image_split=None, batch_size=16, non_causal_batch_size=64,
    full_sentence_scores=False, save_predictions=False,
)
model = run.get_model(args)
compute_results.compute_results(args, model, dataset.get_dataloader(args), [1.0])
encoder = transformers.AutoModel.from_pretrained(model_path, trust_remote_code=True)
hidden_size = transformers.AutoConfig.from_pretrained(model_path, trust_remote_code=True).hidden_size
width = encoder(input_ids=torch.tensor([[0, 1, 2]])).last_hidden_state.shape[-1]
assert width == hidden_size
versions = {"transformers": transformers.__version__, "torch": torch.__version__}
found = versions | {"scores": scores, "encoder": type(encoder).__name__}
pathlib.Path(out).write_text(json.dumps(found))
"""


def first_pairs(data: Path, count: int, folder: Path) -> list[tuple[str, str]]:
    """Copy the first pairs of each paradigm into a folder and return them."""
    pairs = []
    for path in sorted((data / "blimp_filtered").glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()[:count]
        (folder / path.name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        rows = [json.loads(line) for line in lines]
        pairs += [(row["sentence_good"], row["sentence_bad"]) for row in rows]
    return pairs


def official_scores(arguments: argparse.Namespace, folder: Path, backend: str) -> dict:
    """Run the package in a process of its own; return what it found."""
    out = folder.parent / f"{backend}.json"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    if arguments.pythonpath:
        environment["PYTHONPATH"] = str(arguments.pythonpath)
    command = [arguments.python, "-c", OFFICIAL_SIDE, arguments.checkout.resolve(), arguments.model.resolve(), folder]
    done = subprocess.run([*map(str, command), str(out), backend], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the package failed:\n{done.stderr[-2000:]}")
    return json.loads(out.read_text())


def our_scores(model_folder: Path, sentences: list[str], mode: str) -> dict[str, float]:
    """Return our score of each sentence."""
    import torch

    from maskwright.evaluation.evaluated_model import EvaluatedModel
    from maskwright.evaluation.pseudo_likelihood import pseudo_log_likelihoods, tokenize

    model = EvaluatedModel(model_folder, device=torch.device("cpu")).masked_language_model
    scores, _ = pseudo_log_likelihoods(model, tokenize(model.tokenizer, sentences, model.max_tokens), mode)  # pyright: ignore[reportArgumentType]
    return dict(zip(sentences, scores.tolist(), strict=True))


def main() -> None:
    """Compare and print; end with 1 where a score or a choice differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkout", "model", "data"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--pairs", type=int, default=3, help="of each of the 67 paradigms")
    parser.add_argument("--python", default=sys.executable, help="interpreter for the package")
    parser.add_argument("--pythonpath", type=Path, help="folder with another transformers")
    arguments = parser.parse_args()
    is_equal = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "blimp_filtered"
        folder.mkdir()
        pairs = first_pairs(arguments.data, arguments.pairs, folder)
        sentences = sorted({sentence for pair in pairs for sentence in pair})
        for backend, mode in BACKENDS.items():
            theirs = official_scores(arguments, folder, backend)
            ours = our_scores(arguments.model, sentences, mode)
            rows = theirs["scores"]
            assert sorted((row[0], row[1]) for row in rows) == sorted(pairs)
            largest = max(max(abs(ours[row[0]] - row[2]), abs(ours[row[1]] - row[3])) for row in rows)
            num_other = sum((row[2] >= row[3]) != (ours[row[0]] >= ours[row[1]]) for row in rows)
            print(
                f"{backend}: {len(rows)} pairs, largest difference of a score {largest:.2g}, {num_other} other "
                f"choices; package on transformers {theirs['transformers']}, torch {theirs['torch']}; "
                f"AutoModel gives {theirs['encoder']}"
            )
            is_equal &= largest <= MOST_DIFFERENCE and num_other == 0
    sys.exit(0 if is_equal else 1)


if __name__ == "__main__":
    main()
