#!/usr/bin/env bash
# From a fresh machine to the comparison table, or to passed tests.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'EOF'
Usage: ./quickstart.sh         install what is missing, build, train both models on the builtin corpus, print the table
       ./quickstart.sh build   install what is missing and build
       ./quickstart.sh test    install what is missing, build with Parquet, and run the tests
       ./quickstart.sh test all   the same with PyTorch, pandas and TensorBoard, for the tests that use them

Packages come from apt (Debian, Ubuntu; as root or through sudo). Elsewhere install GCC 12 or later, or clang, CMake, Ninja,
Eigen 3, fmt, nlohmann-json, utf8proc and zlib, and run the same command.
EOF
}

say() { printf '== %s\n' "$*"; }

packages=(g++ cmake ninja-build libeigen3-dev libfmt-dev nlohmann-json3-dev libutf8proc-dev zlib1g-dev)
test_packages=(catch2 libbenchmark-dev libprotobuf-dev protobuf-compiler gnuplot-nox python3 python3-venv)

install_missing() {
  command -v apt-get >/dev/null || { say "no apt-get here: assuming that the libraries are installed"; return; }
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "quickstart: neither root nor sudo; install: ${missing[*]}" >&2; exit 2; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get -qq update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

# Into .venv, those of tests/goldens/requirements.txt that are named, or all. The pyarrow wheel brings Apache Arrow's C++
# library where the system has no package of it; the tests do without the others.
install_python() {
  local pins package
  pins=$(for package in "$@"; do grep "^$package==" tests/goldens/requirements.txt; done)
  [ $# -gt 0 ] || pins=$(cat tests/goldens/requirements.txt)
  [ -x .venv/bin/python ] || python3 -m venv .venv
  if [ -z "$(.venv/bin/python -m pip freeze 2>/dev/null | sed 's/+.*//' | grep -vxFf - <(echo "$pins"))" ]; then return; fi
  say "installing into .venv: ${pins//$'\n'/ }"
  # shellcheck disable=SC2086
  .venv/bin/python -m pip install --quiet --disable-pip-version-check $pins || say "could not: going on without"
}

build() {
  say "building in build/"
  cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release "$@"
  cmake --build build
}

case "${1:-train}" in
  train)
    install_missing "${packages[@]}"
    build -DWEDGE_TESTS=OFF -DWEDGE_BENCH=OFF
    say "training both models on the builtin corpus"
    build/bin/wedge train -m model=attention,grassmann data=builtin experiment=quick
    ;;
  build)
    install_missing "${packages[@]}"
    build -DWEDGE_TESTS=OFF -DWEDGE_BENCH=OFF
    ;;
  test)
    install_missing "${packages[@]}" "${test_packages[@]}"
    if [ "${2:-}" = all ]; then install_python; else install_python pyarrow; fi
    build -DWEDGE_TESTS=ON -DWEDGE_BENCH=ON
    say "running the tests"
    ctest --test-dir build --output-on-failure --parallel "$(nproc)"
    ;;
  -h | --help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
