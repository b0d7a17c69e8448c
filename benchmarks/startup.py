"""Measure the time from `maskwright --help` to text on the screen, as whole processes.

python benchmarks/startup.py --record benchmarks/records/<date>_startup.json
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from maskwright.core.hardware import environment


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    command = [str(Path(sys.executable).with_name("maskwright")), "--help"]
    seconds = []
    for _ in range(arguments.runs + 1):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(round(time.perf_counter() - begin, 4))
    record = {
        "claim": "maskwright --help shows its text in under 0.5 s",
        "environment": environment(),
        "seconds": seconds[1:],
        "median_seconds": round(statistics.median(seconds[1:]), 3),
        "largest_seconds": max(seconds[1:]),
    }
    print(record["median_seconds"], record["largest_seconds"])
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
