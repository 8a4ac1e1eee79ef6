#!/usr/bin/env bash
# The GPU's tests and benchmarks on a machine that has a GPU, nvcc, cuBLAS and g++, but none of the other packages that
# wedge needs.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
  cat <<'EOF'
Usage: tests/gpu/run.sh pack    where the packages are installed: put what the other machine lacks into build-gpu/packages
       tests/gpu/run.sh         on the GPU's machine: build with nvcc and g++ in build-gpu/, run the tests tagged [gpu], then
                                compute-sanitizer's memcheck and racecheck over them, then train both models
       tests/gpu/run.sh build   only build; tests/gpu/run.sh run: only run what has been built, here or elsewhere

Carry the checkout with build-gpu/packages from one machine to the other; or build where there is time (nvcc needs no GPU, and
CXX_FLAGS=-march=x86-64-v3 makes programs that another processor can run), and carry build-gpu/bin and build-gpu/packages/lib.
NVCC, CXX, NVCC_FLAGS, CXX_FLAGS and LD_FLAGS are respected; PARTS="tests memcheck racecheck train" (the default) chooses what is
run, and TESTS (default: [gpu]) which tests. Where Google Benchmark was packed, the benchmarks are built too, for
bench/peers/run_gpu.py --build build-gpu.
EOF
}

packages=build-gpu/packages

pack() {
  rm -rf "$packages"
  mkdir -p "$packages"
  local header source
  for header in Eigen unsupported fmt nlohmann catch2 utf8proc.h zlib.h zconf.h; do
    source=""
    for folder in /usr/include/eigen3 /usr/include /usr/include/*-linux-gnu /usr/local/include/eigen3 /usr/local/include; do
      if [ -e "$folder/$header" ]; then source=$folder/$header; break; fi
    done
    if [ -z "$source" ]; then echo "run.sh: $header not found: run ./quickstart.sh test first" >&2; exit 2; fi
    cp -rL "$source" "$packages/"
  done
  if [ ! -e "$packages/catch2/catch.hpp" ]; then echo "run.sh: needs the single header of Catch2 2" >&2; exit 2; fi
  mkdir "$packages/lib"
  local library
  for library in libutf8proc.a libz.a; do
    source=$(find /usr/lib /usr/local/lib -name "$library" 2>/dev/null | head -1)
    if [ -z "$source" ]; then echo "run.sh: $library not found" >&2; exit 2; fi
    cp "$source" "$packages/lib/"
  done
  # Where it is, the benchmarks can be built; Debian has it as a shared library only.
  library=$(find /usr/lib /usr/local/lib -name 'libbenchmark.so*' -type f 2>/dev/null | head -1)
  if [ -n "$library" ] && [ -e /usr/include/benchmark ]; then
    cp -r /usr/include/benchmark "$packages/"
    local soname
    soname=$(objdump -p "$library" | awk '$1 == "SONAME" { print $2 }')
    cp "$library" "$packages/lib/$soname"
    ln -s "$soname" "$packages/lib/libbenchmark.so"
  else
    echo "run.sh: no shared Google Benchmark: ops_bench and mixer_bench will not be built"
  fi
  echo "run.sh: packed into $packages: $(du -sh "$packages" | cut -f1)"
}

nvcc=${NVCC:-nvcc}
cxx=${CXX:-g++}

build() {
  [ -d "$packages" ] || { echo "run.sh: no $packages: run 'tests/gpu/run.sh pack' where the packages are" >&2; exit 2; }
  command -v "$nvcc" >/dev/null || { echo "run.sh: no nvcc (NVCC=$nvcc)" >&2; exit 2; }
  local cuda arch
  cuda=$("$nvcc" --dryrun -c -x cu /dev/null -o /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')
  # Without a GPU, what the kernels are for: a build is then all that can be tried.
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .) || true
  case "$arch" in '') arch=sm_90a ;; 90) arch=sm_90a ;; *) arch=sm_$arch ;; esac
  echo "run.sh: building for $arch"

  local common="-std=c++20 -O2 -DNDEBUG -I. -DWEDGE_WITH_CUDA"
  host="$cxx $common -march=native -fopenmp -isystem $packages -isystem $cuda/include -DFMT_HEADER_ONLY"
  host+=" -DWEDGE_CATCH2_MAJOR=2 -DWEDGE_VERSION='\"gpu\"' ${CXX_FLAGS:-}"
  device="$nvcc $common -arch=$arch -lineinfo ${NVCC_FLAGS:-}"
  export host device

  mkdir -p build-gpu/objects
  find tensor kernels autograd models data apps -name '*.cpp' ! -name main.cpp > build-gpu/library.txt
  find tensor kernels -name '*.cu' >> build-gpu/library.txt
  { echo apps/main.cpp; ls tests/gpu/*.cpp; printf '%s\n' tests/autograd/check_case.cpp tests/autograd/ops_test.cpp \
      tests/autograd/token_position_test.cpp tests/support/gpu.cpp tests/support/main.cpp; } > build-gpu/programs.txt
  local benches="train_step_bench"
  [ ! -e "$packages/benchmark" ] || benches+=" ops_bench mixer_bench"
  find bench -maxdepth 1 -name '*.cpp' ! -name '*_bench.cpp' ! -name harness.cpp > build-gpu/bench.txt
  [ ! -e "$packages/benchmark" ] || echo bench/harness.cpp >> build-gpu/bench.txt
  printf 'bench/%s.cpp\n' $benches > build-gpu/benches.txt
  # A file is compiled again when it, or any header, is newer than its object.
  local newest
  newest=$(find . \( -name '*.h' -o -name '*.cuh' \) -not -path './build*' -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
  export newest
  # shellcheck disable=SC2016  # expanded by the shells that xargs starts
  cat build-gpu/{library,programs,bench,benches}.txt | xargs -P "$(nproc)" -I{} bash -c '
    object=build-gpu/objects/$(echo {} | tr / _).o
    if [ "$object" -nt {} ] && [ "$object" -nt "$newest" ]; then exit 0; fi
    case {} in *.cu) compiler=$device ;; *) compiler=$host ;; esac
    eval "$compiler" -c {} -o "$object" || { rm -f "$object"; exit 255; }'

  local objects programs
  objects() { sed 's,/,_,g; s,^,build-gpu/objects/,; s,$,.o,' "$1"; }
  local libraries="$packages/lib/libutf8proc.a $packages/lib/libz.a -L$cuda/lib64 -Wl,-rpath,$cuda/lib64 ${LD_FLAGS:-}
                   -lcublas -lcublasLt -lcudart_static -ldl -lrt -lpthread"
  mkdir -p build-gpu/bin
  programs=$(objects build-gpu/programs.txt | grep -v apps_main)
  # shellcheck disable=SC2046,SC2086  # lists of files
  "$cxx" -fopenmp -o build-gpu/bin/wedge_gpu_tests $programs $(objects build-gpu/library.txt) $libraries
  # shellcheck disable=SC2046,SC2086
  "$cxx" -fopenmp -o build-gpu/bin/wedge build-gpu/objects/apps_main.cpp.o $(objects build-gpu/library.txt) $libraries
  local bench
  for bench in $benches; do
    # shellcheck disable=SC2046,SC2086
    "$cxx" -fopenmp -o "build-gpu/bin/$bench" "build-gpu/objects/bench_$bench.cpp.o" $(objects build-gpu/bench.txt) \
      $(objects build-gpu/library.txt) $libraries -L$packages/lib -Wl,-rpath,"\$ORIGIN/../packages/lib" \
      $([ ! -e "$packages/benchmark" ] || echo -lbenchmark)
  done
}

run() {
  local part tests=${TESTS:-[gpu]}
  for part in ${PARTS:-tests memcheck racecheck train}; do
    echo "run.sh: $part"
    case "$part" in
      tests) build-gpu/bin/wedge_gpu_tests "$tests" -d yes ;;
      memcheck | racecheck)
        if command -v compute-sanitizer >/dev/null; then
          compute-sanitizer --tool "$part" --error-exitcode 1 build-gpu/bin/wedge_gpu_tests "$tests"
        else
          echo "run.sh: no compute-sanitizer: $part left out"
        fi
        ;;
      train)
        build-gpu/bin/wedge train -m model=attention,grassmann data=builtin experiment=quick train.device=cuda \
          experiment.run_dir="$(mktemp -d)/runs"
        ;;
      *) echo "run.sh: unknown part '$part'" >&2; exit 2 ;;
    esac
  done
}

case "${1:-}" in
  '') build; run ;;
  pack | build | run) "$1" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
