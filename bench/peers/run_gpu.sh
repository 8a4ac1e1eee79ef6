#!/usr/bin/env bash
# wedge's and PyTorch's sides on a GPU, one after the other in one go.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

usage() {
  cat <<'TEXT'
usage: bench/peers/run_gpu.sh [--build DIR] [--quick] [--parts "ops mixer step"] [--compile-ops]
                              [--modes "MODE ..."]
       bench/peers/run_gpu.sh --dry-run

Needs a build with CUDA and Google Benchmark (DIR, default build) and a Python with PyTorch for CUDA (PYTHON, default
python3; COMMIT names the commit where there is no checkout). Writes bench/results/DATE_gpu_DEVICE.jsonl, its first line
with device, commit and date, and prints the table of ratios. For each part wedge is measured, then PyTorch, then wedge
again; what changes between wedge's two times is the machine's own, and both are kept (the second in
DATE_gpu_DEVICE_again.jsonl).

  --quick        small sizes and short rounds: to see that it works; nothing goes to bench/results
  --modes "..."  torch.compile's modes for the step (default: max-autotune max-autotune-no-cudagraphs;
                 reduce-overhead compiles sooner)
  --compile-ops  torch.compile for single operations too, not only for mixers and the step: hours of autotuning
  --dry-run      no GPU, no programs: invented input through collecting, the table and its check
TEXT
}

build=$root/build quick="" parts="ops mixer step" ops_variants=eager,eager_graph dry=""
modes="max-autotune max-autotune-no-cudagraphs"
while [ $# -gt 0 ]; do
  case "$1" in
    --build) build=$2; shift 2 ;;
    --parts) parts=$2; shift 2 ;;
    --quick) quick=--quick; shift ;;
    --modes) modes=$2; shift 2 ;;
    --compile-ops) ops_variants=eager,eager_graph,compile,compile_graph; shift ;;
    --dry-run) dry=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
python=${PYTHON:-python3}
peers=$root/bench/peers
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "$dry" ]; then
  "$python" "$peers/ratios.py" invent "$work"
  "$python" "$peers/ratios.py" collect "$work/meta.json" "$work"/wedge_ops.json "$work"/{wedge_step,torch}.jsonl > "$work/all.jsonl"
  "$python" "$peers/ratios.py" table "$work/all.jsonl" > "$work/table.md"
  cat "$work/table.md"
  # Invented: 2.0 ms beside 6.0 and the better of 3.0 and 2.5; 0.5 beside 0.4; 300 tokens/s beside 100 and 200.
  for row in '| mixer/grassmann/32x128 | forward+backward | amp | 2.0000 | 3.00 | - | 1.25 | 1.25 |' \
    '| forward | amp / bf16_tensors | 0.5000 | 0.80 | - | - | 0.80 |' \
    '| grassmann | amp | 300 | 3.00 | 1.50 | 300 | 3.00 | 2.00 | 2.00 |' \
    '| 65536 | float32 | - | 8.0000 | - | - |' 'failed: pytorch mixer/grassmann/32x128'; do
    grep -qF "$row" "$work/table.md" || { echo "run_gpu.sh: the table lacks: $row" >&2; exit 1; }
  done
  echo "run_gpu.sh: dry run on invented figures: as expected"
  exit 0
fi

for program in ops_bench mixer_bench train_step_bench; do
  [ -x "$build/bin/$program" ] || { echo "run_gpu.sh: no $build/bin/$program: build with CUDA and Google Benchmark" >&2; exit 2; }
done
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
  { echo "run_gpu.sh: PyTorch sees no GPU (PYTHON=$python)" >&2; exit 2; }
commit=${COMMIT:-$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)}
device=$("$python" -c 'import torch; print(torch.cuda.get_device_name(0))')
"$python" - "$commit" "$device" > "$work/meta.json" <<'PYTHON'
import datetime, json, sys, torch
print(json.dumps({"device": sys.argv[2], "commit": sys.argv[1], "torch": torch.__version__, "cuda": torch.version.cuda,
                  "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}))
PYTHON
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,utilization.gpu --format=csv >&2 || true

rounds="--benchmark_repetitions=5 --benchmark_min_time=0.1" batch=32 length=128 steps=20
[ -z "$quick" ] || { rounds="--benchmark_min_time=0.01" batch=2 length=32 steps=2; }

# wedge_side PART NAME: into $work/NAME
wedge_side() {
  case "$1" in
    ops | mixer)
      # shellcheck disable=SC2086  # options are words
      "$build/bin/$1_bench" --device=cuda $quick $rounds --benchmark_context=commit="$commit" \
        --benchmark_out="$work/$2.json" --benchmark_out_format=json >&2 ;;
    step)
      "$build/bin/train_step_bench" device=cuda amp=false,true batch=$batch length=$length steps=$steps > "$work/$2.jsonl" ;;
  esac
}

torch_side() {
  local options="--device cuda --commit $commit $quick" model amp mode
  # shellcheck disable=SC2086
  case "$1" in
    ops) "$python" "$peers/ops_torch.py" $options --variants $ops_variants ;;
    mixer)
      "$python" "$peers/mixer_torch.py" $options --groups mixer
      "$python" "$peers/mixer_torch.py" $options --groups length --variants eager_graph,compile_graph ;;
    step)
      for model in grassmann attention; do
        for amp in "" --amp; do
          for mode in "" $modes; do
            "$python" "$peers/train_step_torch.py" --device cuda --model $model --batch $batch --length $length \
              --steps $steps --commit "$commit" $amp ${mode:+--compile $mode} || echo "run_gpu.sh: failed: $model $amp $mode" >&2
          done
        done
      done ;;
  esac > "$work/torch_$1.jsonl"
}

for part in $parts; do
  echo "run_gpu.sh: $part: wedge" >&2
  wedge_side "$part" "wedge_$part"
  echo "run_gpu.sh: $part: PyTorch" >&2
  torch_side "$part"
  echo "run_gpu.sh: $part: wedge again" >&2
  wedge_side "$part" "again_$part"
done

results=$root/bench/results
[ -z "$quick" ] || results=$work
shopt -s nullglob
name=$results/$(date -u +%F)_gpu_$(echo "$device" | tr 'A-Z ' 'a-z_' | tr -cd 'a-z0-9_-')
"$python" "$peers/ratios.py" collect "$work/meta.json" "$work"/wedge_*.json* "$work"/torch_*.jsonl > "$name.jsonl"
"$python" "$peers/ratios.py" collect "$work/meta.json" "$work"/again_*.json* > "${name}_again.jsonl"
"$python" "$peers/ratios.py" table "$name.jsonl"
