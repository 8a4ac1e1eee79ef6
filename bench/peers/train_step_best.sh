#!/usr/bin/env bash
# Find PyTorch's best thread and allocator setting for the training step.
# Prints a JSON line for every setting tried (its name on standard error), then the fastest one of each model.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: train_step_best.sh [--model attention|grassmann|both] [--threads "1 2"] [-- ARGUMENTS]

Runs train_step_torch.py under each allocator and thread count; ARGUMENTS (such as --steps 20) go to it.
PYTHON names the interpreter (default python3).

Allocators: glibc as it is; glibc told to keep what it has (MALLOC_TOP_PAD_ and
MALLOC_TRIM_THRESHOLD_ large, no mmap), also with huge pages; jemalloc and tcmalloc where they are installed.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
models="attention grassmann" threads="1 2"
refuse() { echo "train_step_best.sh: $1" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    --model | --threads) [ $# -gt 1 ] || refuse "$1: expected a word after it" ;;&
    --model)
      case "$2" in
        both) ;;
        attention | grassmann) models=$2 ;;
        *) refuse "--model: expected attention, grassmann or both, got $2" ;;
      esac
      shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) refuse "unknown argument $1; see --help" ;;
  esac
done

python=${PYTHON:-python3}
# MALLOC_MMAP_MAX_=0 says the same as a large MALLOC_MMAP_THRESHOLD_, which some glibc versions cap.
keep="MALLOC_TOP_PAD_=268435456 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184"
settings=("glibc|" "glibc-keep|$keep" "glibc-keep-huge|$keep GLIBC_TUNABLES=glibc.malloc.hugetlb=1")
library() { ldconfig -p | awk -v name="$1" '$1 ~ "^" name {print $NF; exit}'; }
jemalloc=$(library 'libjemalloc[.]so')
tcmalloc=$(library 'libtcmalloc(_minimal)?[.]so')
[ -z "$jemalloc" ] || settings+=("jemalloc-keep|LD_PRELOAD=$jemalloc MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always")
[ -z "$tcmalloc" ] || settings+=("tcmalloc-keep|LD_PRELOAD=$tcmalloc TCMALLOC_RELEASE_RATE=0")

results=$(mktemp)
trap 'rm -f "$results"' EXIT
awk '$1 > 0.5 {print "train_step_best: the load average is " $1 "; timings want an idle machine" > "/dev/stderr"}' /proc/loadavg
for model in $models; do
  for count in $threads; do
    for setting in "${settings[@]}"; do
      echo "$model, threads $count, ${setting%%|*}" >&2
      # shellcheck disable=SC2086  # the settings are words
      env ${setting#*|} "$python" "$here/train_step_torch.py" --model "$model" --threads "$count" "$@" |
        tee -a "$results"
    done
  done
done

"$python" - "$results" <<'PYTHON'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
for model in dict.fromkeys(row["model"] for row in rows):
    best = max((row for row in rows if row["model"] == model), key=lambda row: row["tokens_per_second"])
    print("best:", json.dumps(best))
PYTHON
