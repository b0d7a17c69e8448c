"""Measure preparing a corpus: its speed beside `tokenizers`' own batch encoding, and its peak memory.

    python benchmarks/preparation.py shared_english.jsonl /tmp/bench --record benchmarks/records/<date>_preparation.json

Speed: the same text, tokenizer and cores, both sides in turn in one process, best of several. The rival is
`encode_batch_fast` on all texts with nothing done to the result but counting it, and `encode_batch`, which alone knows
where words begin (for byte-level BPE ours must use it); ours reads, normalises, encodes, marks the words, splits,
writes and checks. Memory: a process of its own prepares about a gigabyte made of the same documents.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from maskwright.core.hardware import environment
from maskwright.core.records.corpus import CorpusManifest
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import TOKENIZER
from maskwright.corpus.prepare import prepare
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import plain_text_encoder
from maskwright.tokenization.train_tokenizer import TokenizerConfig

PEAK = """
import sys
from pathlib import Path
from maskwright.corpus.config import DataConfig
from maskwright.corpus.prepare import prepare
from maskwright.tokenization.train_tokenizer import TokenizerConfig
prepare(DataConfig(data=sys.argv[1]), TokenizerConfig(), Path(sys.argv[2]), seed=0)
# Not getrusage: its maximum includes the parent's memory from before the program began.
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(peak.split()[1]) * 1024)
"""


def main() -> None:
    """Run both measurements, print them and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", type=Path, help='JSON lines with the field "text"')
    parser.add_argument("work", type=Path, help="folder for what is made; about 4 GB for a gigabyte of text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["wordpiece", "unigram", "bpe"])
    parser.add_argument("--memory-bytes", type=int, default=1_000_000_000, help="0 leaves the measurement out")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    texts = [json.loads(line)["text"] for line in arguments.text.open(encoding="utf-8")]
    path, work, rounds = arguments.text, arguments.work, arguments.rounds
    record = {
        "claim": "preparing runs at 0.8 of encode_batch_fast or more; a gigabyte peaks under 1.5 GB resident",
        "environment": environment(),
        "rounds": arguments.rounds,
        "speed": {kind: speed(kind, path, texts, work, rounds) for kind in arguments.kinds},
    }
    if arguments.memory_bytes:
        record["memory"] = memory(texts, arguments.work, arguments.memory_bytes)
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def speed(kind: str, path: Path, texts: list[str], work: Path, rounds: int) -> dict[str, object]:
    """Return the seconds of each round on both sides, and the ratio of the best rates."""
    first = work / f"{kind}-tokenizer"
    if not first.exists():
        prepare(DataConfig(data=str(path)), TokenizerConfig.model_validate({"kind": kind}), first, seed=0)
    existing = TokenizerConfig(existing=str(first / TOKENIZER))
    encoder = plain_text_encoder(load_tokenizer(first / TOKENIZER))
    theirs, theirs_with_words, ours, num_tokens = [], [], [], 0
    for _ in range(rounds):
        begin = time.perf_counter()
        num_tokens = sum(len(encoding) for encoding in encoder.encode_batch_fast(texts, add_special_tokens=False))
        theirs.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        sum(len(encoding) for encoding in encoder.encode_batch(texts, add_special_tokens=False))
        theirs_with_words.append(time.perf_counter() - begin)
        shutil.rmtree(work / "timed", ignore_errors=True)
        begin = time.perf_counter()
        manifest: CorpusManifest = prepare(DataConfig(data=str(path)), existing, work / "timed", seed=0)
        ours.append(time.perf_counter() - begin)
        assert sum(split.num_tokens for split in manifest.splits.values()) == num_tokens
    ratio = min(theirs) / min(ours)
    print(
        f"{kind:10} {num_tokens:12,} tokens   encode_batch_fast {num_tokens / min(theirs):12,.0f} tokens/s   "
        f"prepare {num_tokens / min(ours):12,.0f} tokens/s   ratio {ratio:.2f}"
    )
    return {
        "num_tokens": num_tokens,
        "encode_batch_fast_seconds": theirs,
        "encode_batch_seconds": theirs_with_words,
        "prepare_seconds": ours,
        "ratio": ratio,
        "ratio_to_encode_batch": min(theirs_with_words) / min(ours),
    }


def memory(texts: list[str], work: Path, num_bytes: int) -> dict[str, float]:
    """Prepare about `num_bytes` of text in a process of its own; return its peak resident memory."""
    large, order, size = work / "large.jsonl", random.Random(0), 0
    with large.open("w", encoding="utf-8") as file:
        while size < num_bytes:
            for text in order.sample(texts, len(texts)):
                size += file.write(json.dumps({"text": f"{order.random()} {text}"}, ensure_ascii=False) + "\n")
    shutil.rmtree(work / "large", ignore_errors=True)
    begin = time.perf_counter()
    command = [sys.executable, "-c", PEAK, str(large), str(work / "large")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    seconds, peak = time.perf_counter() - begin, float(done.stdout)
    print(f"memory: {large.stat().st_size / 1e9:.2f} GB of text peaked at {peak / 1e9:.2f} GB, in {seconds:.0f} s")
    gigabytes = round(peak / 1e9, 3)
    return {"text_bytes": large.stat().st_size, "peak_gigabytes": gigabytes, "seconds": seconds}


if __name__ == "__main__":
    main()
