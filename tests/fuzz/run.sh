#!/usr/bin/env bash
# Fuzzes what reads input from outside, SECONDS (30) for each target, or for the one that is named. See README.md here.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-30}
targets=${2:-safetensors config tokens wordpiece parquet state metrics}

clang=${CXX:-}
for candidate in clang++ clang++-19 clang++-16 clang++-14; do
  [ -n "$clang" ] || ! command -v "$candidate" >/dev/null || clang=$candidate
done
[ -n "$clang" ] || { echo "fuzz: no clang++ (Debian: clang libclang-rt-dev libomp-dev)" >&2; exit 2; }

cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER="$clang" -DWEDGE_FUZZ=ON -DWEDGE_SANITIZE=ON -DWEDGE_NATIVE=OFF \
  -DWEDGE_BENCH=OFF -DWEDGE_CUDA=OFF >/dev/null
names=()
for target in $targets; do names+=("fuzz_$target"); done
cmake --build build-fuzz --target "${names[@]}"

export OMP_NUM_THREADS=1
mkdir -p build-fuzz/findings
for target in $targets; do
  mkdir -p "build-fuzz/corpus/$target"
  echo "== $target"
  "build-fuzz/bin/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/findings/$target-" "build-fuzz/corpus/$target" "tests/fuzz/seeds/$target" 2>"build-fuzz/$target.log" ||
    { tail -40 "build-fuzz/$target.log"; echo "fuzz: a finding in $target: see build-fuzz/findings" >&2; exit 1; }
  grep -E "number_of_executed_units|new_units_added|peak_rss" "build-fuzz/$target.log" | sed 's/^stat::/  /'
done
