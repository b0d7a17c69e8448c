"""Measure building a cache of MLSM's targets beside the reference's order of work, and what the cache holds.

    pip install 'maskwright[test]'
    python benchmarks/target_cache.py MODEL TEXT --atoms 3000 --record benchmarks/records/<date>_target_cache.json

MODEL is a masked encoder's folder or a run's (`maskwright train` leaves one), TEXT a JSONL file with "text" of which as
much is taken as is asked for. The reference's order of work, on the same teacher, dictionary and text: sequences padded
to the longest of 32, all layers and the vocabulary head at every position, the largest eigenvalue at every batch, 100
FISTA steps from zero. Ours is `build_target_cache`, files written and all: with the exact solver at two accuracies, and
with the same 100 steps, so that the share of solver and order of work can be told apart. One thread; in turn, the
faster of several rounds of each; time is processor time of this process. Accuracy is the duality gap of every code, and
the distance of targets from the optimum on a sample.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.batching.pack import assemble, pack_sequences
from maskwright.batching.row_plan import NUM_SPECIALS, Pieces
from maskwright.batching.segments import Segments
from maskwright.core.batches import PackedBatch
from maskwright.core.hardware import environment
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import prepare
from maskwright.models.teacher import Teacher, unit_rows
from maskwright.semantics.dictionary import Dictionary, DictionaryProvenance
from maskwright.semantics.sparse_coding.codes import SparseCoder, fista, largest_eigenvalue, target_distributions
from maskwright.semantics.sparse_coding.dictionary_learning import DictionaryConfig, DictionaryLearner, learn_dictionary
from maskwright.semantics.target_cache.build_cache import build_target_cache
from maskwright.semantics.target_cache.cache import DTYPES, TargetCache, token_numbers
from maskwright.semantics.targets import CodingOptions, TargetCoder, TopTargets
from maskwright.tokenization.train_tokenizer import TokenizerConfig
from maskwright.training.phases import read_model

SEQUENCES_PER_BATCH = 32
SEQUENCE_LENGTH, MICRO_BATCH_TOKENS = 128, 4096
NUM_JUDGED = 512


def make_corpus(folder: Path, model: Path, text: Path, num_tokens: int) -> Corpus:
    """Prepare the first documents of the text with the model's tokenizer; about four characters are a token."""
    part, num_characters = folder / "text.jsonl", 0
    with text.open(encoding="utf-8") as lines, part.open("w", encoding="utf-8") as out:
        for line in lines:
            out.write(line)
            num_characters += len(json.loads(line)["text"])
            if num_characters > 4 * num_tokens:
                break
    tokenizer = model / "model" if (model / "model").is_dir() else model
    prepare(
        DataConfig(data=str(part), held_out_fraction=0.01),
        TokenizerConfig(existing=str(tokenizer)),
        folder / "corpus",
        seed=0,
    )
    return open_corpus(folder / "corpus", verify=False)


def batches_of(corpus: Corpus) -> Iterator[tuple[PackedBatch, Tensor]]:
    """Yield the train split packed, as a build reads it, with the places of text."""
    split, special_ids = corpus.split("train"), torch.tensor(corpus.vocabulary.special_ids)
    segments = Segments.of(split.document_lengths, SEQUENCE_LENGTH)
    for batch in segments.batches(split, corpus.vocabulary, SEQUENCE_LENGTH, MICRO_BATCH_TOKENS):
        yield batch, (~torch.isin(batch.token_ids_T, special_ids)).nonzero().squeeze(1)


def padded_batches(corpus: Corpus) -> Iterator[tuple[PackedBatch, Tensor]]:
    """Yield the same sequences in the order of the text, one a row, padded to the longest of the batch."""
    split, special_ids = corpus.split("train"), torch.tensor(corpus.vocabulary.special_ids)
    segments = Segments.of(split.document_lengths, SEQUENCE_LENGTH)
    for begin in range(0, len(segments), SEQUENCES_PER_BATCH):
        part = segments.take(slice(begin, begin + SEQUENCES_PER_BATCH))
        pieces = Pieces(part.documents, part.starts, part.lengths, np.arange(len(part) + 1))
        tokens = split.gather_tokens(part.documents, part.starts, part.lengths)
        batch = assemble(pieces, tokens, corpus.vocabulary, int(part.lengths.max()) + NUM_SPECIALS)
        yield batch, (~torch.isin(batch.token_ids_T, special_ids)).nonzero().squeeze(1)


def learned_dictionary(corpus: Corpus, teacher: Teacher, num_atoms: int, penalty: float, updates: int) -> Dictionary:
    """Learn a dictionary from the states of the text."""
    states_ND = torch.cat([teacher.states(batch, places) for batch, places in batches_of(corpus)])
    states_ND = states_ND[torch.randperm(len(states_ND), generator=torch.Generator().manual_seed(0))]
    config = DictionaryConfig(num_atoms=num_atoms, penalty=penalty, num_updates=updates)
    atoms_AD = learn_dictionary(DictionaryLearner(config, states_ND, seed=0), states_ND)
    return Dictionary(
        atoms_AD,
        DictionaryProvenance(
            penalty=penalty,
            teacher=teacher.name,
            teacher_sha256=teacher.sha256,
            layer=teacher.layer,
            num_states_seen=len(states_ND),
            num_states=len(states_ND),
            seed=0,
            num_updates=updates,
            objective=0.0,
        ),
    )


@torch.no_grad()
def reference_order(corpus: Corpus, teacher: Teacher, atoms_AD: Tensor, penalty: float) -> int:
    """Make the targets of every token in the reference's order of work; return how many."""
    num_tokens = 0
    for batch, places in padded_batches(corpus):
        x_TD = teacher.encoder(batch.input)
        teacher.head(x_TD, teacher.encoder.embedding_weight_VE)
        states_MD = unit_rows(x_TD[places])
        target_distributions(fista(atoms_AD, states_MD, penalty, 100, largest_eigenvalue(atoms_AD)))
        num_tokens += len(places)
    return num_tokens


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns, and its processor time."""
    begin = time.process_time()
    result = work()
    return result, time.process_time() - begin


def fastest_of_turns(
    rounds: int, corpus: Corpus, teacher: Teacher, dictionary: Dictionary, ways: dict[str, CodingOptions], folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, TargetCache]]:
    """Return the speed of the reference's order and of our builds, and the caches."""
    seconds: dict[str, list[float]] = {"reference_order": [], **{name: [] for name in ways}}
    caches: dict[str, TargetCache] = {}
    num_tokens = 0
    penalty = next(iter(ways.values())).penalty
    for turn in range(rounds):
        num_tokens, spent = timed(lambda: reference_order(corpus, teacher, dictionary.atoms_AD, penalty))
        seconds["reference_order"].append(spent)
        print("reference_order", round(num_tokens / spent), "tokens/s", flush=True)
        for name, options in ways.items():
            place = folder / f"{name}-{turn}"
            caches[name], spent = timed(
                lambda place=place, options=options: build_target_cache(
                    place, corpus, teacher, dictionary, options, SEQUENCE_LENGTH, MICRO_BATCH_TOKENS
                )
            )
            seconds[name].append(spent)
            print(name, round(num_tokens / spent), "tokens/s", flush=True)
    slowest = min(seconds["reference_order"])
    found: dict[str, dict[str, Any]] = {
        name: {
            "processor_seconds": [round(each, 2) for each in times],
            "tokens_per_processor_second": round(num_tokens / min(times)),
            "times_the_reference": round(slowest / min(times), 2),
        }
        for name, times in seconds.items()
    }
    for name, cache in caches.items():
        found[name]["statistics"] = cache.manifest.statistics.summary()
    return found, caches


def judged(atoms_AD: Tensor, penalty: float, states_MD: Tensor, ways: dict[str, CodingOptions]) -> dict[str, Any]:
    """Return how far the targets of each way are from the optimum, on a sample: total variation, and the gap."""
    best_MA = target_distributions(SparseCoder(atoms_AD.double(), penalty, tolerance=1e-9).encode(states_MD)[0])
    found = {}
    for name, options in ways.items():
        coder = SparseCoder(atoms_AD, penalty, options.solver, options.tolerance, options.num_iterations)
        codes_MA, report = coder.encode(states_MD)
        distance_M = 0.5 * (target_distributions(codes_MA) - best_MA).abs().sum(1)
        found[name] = {"mean_total_variation": float(distance_M.mean()), **report.summary()}
    return found


def size_of(cache: TargetCache) -> dict[str, float]:
    """Return the bytes of a cache beside three an atom and four a token."""
    manifest = cache.manifest
    num_bytes = sum(manifest.num_bytes(kind) for kind in DTYPES)
    num_entries = sum(part.num_entries for part in manifest.parts)
    return {
        "bytes": num_bytes,
        "entries": num_entries,
        "nonzeros": manifest.statistics.num_nonzeros,
        "tokens": manifest.num_tokens,
        "over_3_a_nonzero_and_4_a_token": round(
            num_bytes / (3 * manifest.statistics.num_nonzeros + 4 * manifest.num_tokens), 4
        ),
    }


def stored_beside_direct(
    cache: TargetCache, coder: TargetCoder, batches: Iterator[tuple[PackedBatch, Tensor, np.ndarray]]
) -> dict[str, float]:
    """Return distances of targets in the cache from those that the coder makes: total variation, and KL in nats."""
    variation, divergence = [], []
    for batch, places, numbers in batches:
        direct_MA, stored_MA = (
            dense(targets, coder.num_atoms) for targets in (coder.targets(batch, places), cache.lookup(numbers))
        )
        variation.append(0.5 * (direct_MA - stored_MA).abs().sum(1))
        shared = (direct_MA > 0) & (stored_MA > 0)
        ratio_MA = torch.where(shared, direct_MA / stored_MA.clamp_min(1e-30), 1.0)
        divergence.append((direct_MA * ratio_MA.log()).sum(1))
    variation_M, divergence_M = torch.cat(variation), torch.cat(divergence)
    return {
        "tokens": len(variation_M),
        "mean_total_variation": float(variation_M.mean()),
        "largest_total_variation": float(variation_M.max()),
        "mean_kl_nats": float(divergence_M.mean()),
    }


def dense(targets: TopTargets, num_atoms: int) -> Tensor:
    """Return targets over all atoms."""
    found = torch.zeros(len(targets.atom_ids_MW), num_atoms)
    return found.scatter_add_(1, targets.atom_ids_MW, targets.weights_MW)


def build_batches(corpus: Corpus) -> Iterator[tuple[PackedBatch, Tensor, np.ndarray]]:
    """Yield the batches of a build of one part, with the tokens' numbers."""
    for batch, places in batches_of(corpus):
        yield batch, places, token_numbers(batch, places, corpus.split("train").first_tokens)


def whole_documents(corpus: Corpus, count: int) -> Iterator[tuple[PackedBatch, Tensor, np.ndarray]]:
    """Yield documents that fit into a sequence, each alone in its batch, with the tokens' numbers."""
    split, special_ids = corpus.split("train"), torch.tensor(corpus.vocabulary.special_ids)
    fitting = np.flatnonzero(split.document_lengths <= SEQUENCE_LENGTH - NUM_SPECIALS)
    for document in fitting[:count]:
        length = split.document_lengths[document]
        tokens = split.gather_tokens(np.array([document]), np.array([0]), np.array([length])).token_ids
        batch = pack_sequences([tokens], corpus.vocabulary, SEQUENCE_LENGTH)
        places = (~torch.isin(batch.token_ids_T, special_ids)).nonzero().squeeze(1)
        yield batch, places, split.first_tokens[document] + places.numpy() - 1


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--atoms", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--updates", type=int, default=60, help="minibatches of learning the dictionary")
    parser.add_argument("--layer", type=int, default=-1)
    parser.add_argument("--penalty", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conditions", default="idle machine", help="said in the record")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ways = {
        "exact": CodingOptions(penalty=arguments.penalty),
        "exact_1e-2": CodingOptions(penalty=arguments.penalty, tolerance=1e-2),
        "fista_100": CodingOptions(penalty=arguments.penalty, solver="fista"),
    }
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = make_corpus(folder, arguments.model, arguments.text, arguments.tokens)
        model = read_model(arguments.model)
        teacher = Teacher(model, arguments.layer, str(arguments.model), torch.device("cpu"), torch.float32)
        dictionary = learned_dictionary(corpus, teacher, arguments.atoms, arguments.penalty, arguments.updates)
        building, caches = fastest_of_turns(arguments.rounds, corpus, teacher, dictionary, ways, folder)
        states_MD = torch.cat([teacher.states(batch, places) for batch, places in batches_of(corpus)])
        sample_MD = states_MD[torch.randperm(len(states_MD), generator=torch.Generator().manual_seed(1))[:NUM_JUDGED]]
        coder = TargetCoder(teacher, dictionary, ways["exact"])
        config = teacher.encoder.config
        record = {
            "claim": "building a cache of targets takes at most a third of the time of the reference's order of work, "
            "with codes at least as near to the optimum; it has at most 1.2 x 3 bytes a non-zero and 4 a token",
            "environment": environment(),
            "conditions": arguments.conditions,
            "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
            "teacher": {
                "family": type(teacher.encoder).__name__,
                "layers": config.num_layers,
                "layer": teacher.layer,
                "width": config.hidden_size,
                "vocabulary": config.vocabulary_size,
            },
            "num_atoms": arguments.atoms,
            "penalty": arguments.penalty,
            "sequence_length": SEQUENCE_LENGTH,
            "micro_batch_tokens": MICRO_BATCH_TOKENS,
            "building": building,
            "distance_from_the_optimum": judged(dictionary.atoms_AD, arguments.penalty, sample_MD, ways),
            "size": size_of(caches["exact"]),
            "stored_beside_what_the_solver_found": stored_beside_direct(caches["exact"], coder, build_batches(corpus)),
            "stored_beside_online_on_whole_documents": stored_beside_direct(
                caches["exact"], coder, whole_documents(corpus, 100)
            ),
        }
    print(json.dumps(record, indent=1), flush=True)
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
