"""Run an entry: how long it takes to a track's target.

    python benchmarks/speedrun/race.py TARGET CORPUS ENTRY --seeds 3 --record benchmarks/records/<date>_race.json

TARGET is what rivals.py wrote for the track, ENTRY a recipe. The clock runs from the tokenised text to the last update:
building the model, timing steps, compiling and waiting count; exporting and measuring don't. The entry has won if the
mean of its held-out losses is below the target, and the chance that the true mean is not is under 1 % (t-test).
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from scipy import stats
from shared import TRACKS, measured_on, open_track_corpus

from maskwright.core.files import write_json_atomically
from maskwright.core.hardware import environment
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import Corpus
from maskwright.training.export_checkpoint import export_run
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import read_recipe
from maskwright.training.run import assemble_run

LARGEST_P_VALUE = 0.01


def race(entry: Path, corpus: Corpus, seed: int) -> dict[str, Any]:
    """Train once and return seconds and what was reached."""
    recipe = read_recipe(entry, {"seed": seed, "checkpoints.keep_best": False})
    with tempfile.TemporaryDirectory() as work:
        folder = RunFolder(Path(work))
        begin = time.perf_counter()
        run = assemble_run(recipe, corpus, folder, Ranks(), {}, recipe_folder=entry.parent)
        result = TrainingLoop(run).train()
        seconds = time.perf_counter() - begin
        export_run(folder.path, "newest")
        scores = measured_on(folder.model, corpus)
    return {"seed": seed, "seconds": round(seconds, 1), "tokens": result.num_tokens, "steps": result.step, **scores}


def verdict(runs: list[dict[str, Any]], target: float) -> dict[str, Any]:
    """Return the mean seconds, and whether the target was reached beyond chance."""
    losses = [each["cross_entropy"] for each in runs]
    p_value = float(stats.ttest_1samp(losses, target, alternative="less").pvalue) if len(losses) > 1 else 1.0
    return {
        "seconds": round(statistics.mean(each["seconds"] for each in runs), 1),
        "mean": round(statistics.mean(losses), 4),
        "p_value": p_value,
        "is_reached": statistics.mean(losses) < target and p_value < LARGEST_P_VALUE,
    }


def main() -> None:
    """Race with several seeds and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("entry", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()
    aim, corpus = json.loads(arguments.target.read_text(encoding="utf-8")), open_track_corpus(arguments.corpus)
    if "target" not in aim or aim.get("track") not in TRACKS:
        raise SystemExit(f"{arguments.target} holds no target of a track ({', '.join(TRACKS)}): finish rivals.py first")
    if aim["content_sha256"] != corpus.manifest.content_sha256:
        raise SystemExit(f"{arguments.target} is a target for another text than {arguments.corpus}: the rules fix it")
    runs = []
    for seed in range(1, arguments.seeds + 1):
        runs.append(race(arguments.entry, corpus, seed))
        print(runs[-1], flush=True)
    found = verdict(runs, aim["target"])
    limit = TRACKS[aim["track"]].seconds
    record = {
        "track": aim["track"],
        "target": aim["target"],
        "entry": arguments.entry.name,
        "recipe": arguments.entry.read_text(encoding="utf-8"),
        "environment": environment(),
        "runs": runs,
        **found,
        "share_of_the_rival_s_time": round(found["seconds"] / limit, 4),
    }
    print(json.dumps(found))
    write_json_atomically(arguments.record, record)


if __name__ == "__main__":
    main()
