#!/usr/bin/env bash
# Checks and measures training on one NVIDIA GPU, in at most eight minutes, and leaves a record:
#
#     benchmarks/gpu.sh RECORD [--sizes base]      what benchmarks/gpu.py says, on a GPU
#     benchmarks/gpu.sh RECORD --dry-run           the same stages on the CPU, at tiny sizes
#
# 1. numerics: loss and gradients of one batch, beside those of the CPU in float32;
# 2. tests: `pytest -m gpu`; beside both, `compile` fills torch's cache, so that 3. has less to wait for;
# 3. speed: base and large at 512, 1024, 128 and 8192 tokens beside ModernBertForMaskedLM (bf16, compiled).
#
# A stage that fails or whose time is up leaves its error in the record, the others run, and the exit status is 1.
# PYTHON names an interpreter that has everything; by default it is that of .venv, which `make` sets up.
set -euo pipefail
cd "$(dirname "$0")/.."

[[ $# -ge 1 && $1 != -* ]] || { echo "usage: $0 RECORD [--dry-run] [--sizes SIZE ...]" >&2; exit 2; }
record=$1
shift
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=.venv/bin/python
  [[ -x $PYTHON ]] || make .venv/.tested
fi
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
export TORCHINDUCTOR_CACHE_DIR="$parts/cache"

# stage NAME SECONDS COMMAND ...: run it for so long at most; keep its output, its exit status and its seconds
stage() {
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  timeout --kill-after=5 "$limit" "$@" >"$parts/$name.log" 2>&1 || status=$?
  echo "$status $((SECONDS - begin))" >"$parts/$name.status"
  echo "$name: exit $status after $((SECONDS - begin)) s"
  tail -n 3 "$parts/$name.log" | cut -c1-400
}

# ours NAME SECONDS FLAG ...: a stage of benchmarks/gpu.py, which is told to end in time by itself
ours() {
  local name=$1 limit=$2
  shift 2
  stage "$name" $((limit + 15)) "$PYTHON" benchmarks/gpu.py "$name" --part "$parts/$name.json" --seconds "$limit" "$@"
}

ours compile 165 "$@" &
ours numerics 100 "$@"
mapfile -t with_gpu < <(grep -rl --include='test_*.py' 'mark\.gpu' tests)
stage tests 60 "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu "${with_gpu[@]}"
wait
ours speed 255 "$@"
"$PYTHON" benchmarks/gpu.py gather --parts "$parts" --record "$record" "$@"
