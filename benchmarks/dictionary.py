"""Measure dictionary learning beside scikit-learn, and sparse coding beside 100 FISTA steps, on the same states.

    pip install 'maskwright[test]'
    python benchmarks/dictionary.py MODEL TEXT --record benchmarks/records/<date>_dictionary.json

MODEL is a Hugging Face encoder folder (`maskwright train` leaves one), TEXT a JSONL file with "text". Both learners
begin with the same atoms and see the same number of states, one thread each; scikit-learn works in float64, where its
solver stops earlier than in float32. The objective of both is measured by our exact solver on all states they learned
from and on states that neither saw; scikit-learn's own codes of some states check the measure. Time is processor time
of this process, so that what others run on the machine counts little; the machine's load is in the record.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
import torch
import transformers
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning

from maskwright.core.hardware import environment
from maskwright.models.teacher import unit_rows
from maskwright.semantics.sparse_coding.codes import SparseCoder, fista
from maskwright.semantics.sparse_coding.dictionary_learning import (
    DictionaryConfig,
    DictionaryLearner,
    learn_dictionary,
    mean_objective,
)

NUM_HELD_OUT = 2000


def hidden_states(model: Path, text: Path, count: int) -> torch.Tensor:
    """Return the last layer's states of the first texts' tokens, of norm 1, in random order; [CLS] left out."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    encoder = transformers.AutoModel.from_pretrained(model).eval()
    lines = [json.loads(line)["text"] for line in text.open(encoding="utf-8")]
    found, num_found = [], 0
    for begin in range(0, len(lines), 32):
        batch = tokenizer(lines[begin : begin + 32], truncation=True, max_length=128, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = encoder(**batch).last_hidden_state
        is_token = batch["attention_mask"].bool()
        is_token[:, 0] = False
        found.append(states[is_token])
        num_found += len(found[-1])
        if num_found >= count:
            break
    states_ND = unit_rows(torch.cat(found))
    if len(states_ND) < count:
        raise SystemExit(f"{text} gives {len(states_ND):,} states, {count:,} are wanted")
    return states_ND[torch.randperm(len(states_ND), generator=torch.Generator().manual_seed(0))[:count]]


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return what `work` returns, and its processor and wall time."""
    processor, wall = time.process_time(), time.perf_counter()
    result = work()
    times = {"processor_seconds": time.process_time() - processor, "wall_seconds": time.perf_counter() - wall}
    return result, {name: round(seconds, 3) for name, seconds in times.items()}


def learn_both(train_ND: torch.Tensor, held_ND: torch.Tensor, config: DictionaryConfig) -> dict[str, Any]:
    """Return time and objectives of both learners, and their ratios."""
    learner = DictionaryLearner(config, train_ND, seed=0)
    rival = MiniBatchDictionaryLearning(
        n_components=config.num_atoms,
        alpha=config.penalty,
        fit_algorithm="cd",
        positive_code=True,
        max_iter=max(1, round(config.num_updates * config.batch_states / len(train_ND))),
        max_no_improvement=None,
        tol=0.0,
        dict_init=learner.atoms_AD.double().numpy(),
        random_state=0,
        n_jobs=1,
    )
    first = learner.atoms_AD.clone()
    _, our_time = timed(lambda: learn_dictionary(learner, train_ND))
    print("ours", our_time, flush=True)
    _, their_time = timed(lambda: rival.fit(train_ND.double().numpy()))
    print("scikit-learn", their_time, flush=True)
    dictionaries = {
        "first_atoms": first,
        "ours": learner.atoms_AD,
        "scikit_learn": torch.from_numpy(np.asarray(rival.components_, np.float32)),
    }
    objectives = {
        name: {
            "sample": mean_objective(atoms_AD, config.penalty, train_ND, 1e-3),
            "held_out": mean_objective(atoms_AD, config.penalty, held_ND, 1e-3),
        }
        for name, atoms_AD in dictionaries.items()
    }
    return {
        "ours": {**our_time, "settings": config.model_dump(), **objectives["ours"]},
        "scikit_learn": {
            **their_time,
            "settings": rival.get_params() | {"dict_init": "ours"},
            **objectives["scikit_learn"],
        },
        "first_atoms": objectives["first_atoms"],
        "speed_ratio": round(their_time["processor_seconds"] / our_time["processor_seconds"], 2),
        "objective_ratio_sample": round(objectives["ours"]["sample"] / objectives["scikit_learn"]["sample"], 4),
        "objective_ratio_held_out": round(objectives["ours"]["held_out"] / objectives["scikit_learn"]["held_out"], 4),
        "check_of_the_measure": check_of_the_measure(learner.atoms_AD, config.penalty, held_ND[:200]),
        "atoms_AD": learner.atoms_AD,
    }


def check_of_the_measure(atoms_AD: torch.Tensor, penalty: float, states_MD: torch.Tensor) -> dict[str, float]:
    """Return the mean objective of the same states by scikit-learn's codes and by ours."""
    atoms, states = atoms_AD.double().numpy(), states_MD.double().numpy()
    codes = sparse_encode(states, atoms, algorithm="lasso_cd", alpha=penalty, positive=True, max_iter=20_000)
    theirs = (0.5 * ((states - codes @ atoms) ** 2).sum(1) + penalty * codes.sum(1)).mean()
    return {"by_scikit_learn": float(theirs), "by_us": mean_objective(atoms_AD, penalty, states_MD, 1e-5)}


def code_both(atoms_AD: torch.Tensor, penalty: float, states_MD: torch.Tensor) -> dict[str, Any]:
    """Return time and accuracy of the exact solver and of FISTA, and of both forms of FISTA's gradient."""
    found: dict[str, Any] = {}
    for name, options in {
        "exact_1e-2": {"tolerance": 1e-2},
        "exact_1e-4": {"tolerance": 1e-4},
        "fista_100": {"solver": "fista", "num_iterations": 100},
    }.items():
        coder = SparseCoder(atoms_AD, penalty, **options)
        coder.encode(states_MD[:64])
        (_, report), times = timed(lambda coder=coder: coder.encode(states_MD))
        found[name] = {**times, "states_per_processor_second": round(len(states_MD) / times["processor_seconds"])}
        found[name] |= report.summary()
    # Half the atoms: there the Gram matrix is as cheap as the dictionary, by count of operations.
    for name, num_atoms in {"all_atoms": len(atoms_AD), "two_widths": 2 * atoms_AD.shape[1] - 1}.items():
        part = atoms_AD[:num_atoms]
        eigenvalue = float(torch.linalg.eigvalsh((part.T @ part).double())[-1])
        _, times = timed(lambda part=part, top=eigenvalue: fista(part, states_MD, penalty, 20, top))
        found[f"fista_20_{name}"] = {**times, "num_atoms": len(part), "by_gram_matrix": len(part) < 2 * part.shape[1]}
    return found


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--atoms", type=int, default=1000)
    parser.add_argument("--states", type=int, default=30_000)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--penalty", type=float, default=0.05)
    parser.add_argument("--conditions", default="idle machine", help="said in the record")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    states_ND = hidden_states(arguments.model, arguments.text, arguments.states + NUM_HELD_OUT)
    train_ND, held_ND = states_ND[:-NUM_HELD_OUT], states_ND[-NUM_HELD_OUT:]
    batch = DictionaryConfig().batch_states
    config = DictionaryConfig(
        num_atoms=arguments.atoms, penalty=arguments.penalty, num_updates=arguments.passes * len(train_ND) // batch
    )
    load = os.getloadavg()[0]
    learning = learn_both(train_ND, held_ND, config)
    coding = code_both(learning.pop("atoms_AD"), config.penalty, held_ND[:1024])
    record = {
        "claim": "at least 5 times as fast as MiniBatchDictionaryLearning, with an objective at most 1 % above its own",
        "environment": environment(),
        "conditions": arguments.conditions,
        "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "num_states": len(train_ND),
        "width": train_ND.shape[1],
        "learning": learning,
        "coding": coding,
    }
    print(json.dumps({name: learning[name] for name in learning if "ratio" in name}), flush=True)
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
