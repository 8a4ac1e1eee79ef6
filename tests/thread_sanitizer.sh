#!/usr/bin/env bash
# The CPU's kernels and the data loader under ThreadSanitizer. clang and its OpenMP runtime, whose Archer tells the sanitizer
# where threads wait for each other. (Debian: clang libclang-rt-dev libomp-dev)
set -euo pipefail
cd "$(dirname "$0")/.."
clang=${CXX:-clang++}
command -v "$clang" >/dev/null || { echo "thread_sanitizer: no $clang" >&2; exit 2; }
archer=$(find /usr/lib/llvm-*/lib /usr/lib -maxdepth 1 -name libarcher.so 2>/dev/null | sort -V | tail -1)
[ -n "$archer" ] || { echo "thread_sanitizer: no libarcher.so (Debian: libomp-dev)" >&2; exit 2; }

cmake -S . -B build-threads -G Ninja -DCMAKE_CXX_COMPILER="$clang" -DWEDGE_SANITIZE_THREADS=ON -DWEDGE_BENCH=OFF \
  -DWEDGE_CUDA=OFF -DWEDGE_PARQUET=OFF >/dev/null
cmake --build build-threads --target wedge_thread_tests
# Four threads, also where there are fewer cores. ignore_noninstrumented_modules: the runtime's own hand-overs.
OMP_NUM_THREADS=4 OMP_TOOL_LIBRARIES=$archer TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" \
  build-threads/bin/wedge_thread_tests "${1:-*}"
