#!/usr/bin/env bash
# The main job of gdn-gen on this machine, from nothing: installs what is missing, builds gdn-gen, emits the decode
# kernels of two released models for every target, compiles those that this machine can compile, runs one decode step at
# the models' true sizes on the best thing present (a CUDA GPU, else this CPU, else the host shim), compares it with the
# fp64 oracle and prints a table.
#
# usage: quickstart.sh [--no-setup] [--build DIR] [--jobs N]
#   --no-setup   install nothing: build and run with what is there
#   --build DIR  the build directory (build/quickstart)
#   --jobs N     compile with N processes (one per core)
#
# Exit status: 0 every kernel that could run is right; 1 a kernel is wrong, or something needed is missing; 2 bad usage.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/quickstart
jobs=$(nproc)
setup=yes

usage_error() { echo "quickstart: error: $1; see --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --no-setup) setup=no ;;
    --build | --jobs)
      [ $# -ge 2 ] || usage_error "$1 needs a value"
      if [ "$1" = --build ]; then build=$2; else jobs=$2; fi
      shift ;;
    *) usage_error "unknown option '$1'" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage_error "--jobs takes a positive number, not '$jobs'"
case "$build" in /*) ;; *) build=$PWD/$build ;; esac
build=$(realpath -m "$build")

export GDN_TOOLCHAIN_DIR=${GDN_TOOLCHAIN_DIR:-$root/build/toolchain}
started=$SECONDS
step() { printf '\n== %s  (%d s)\n' "$1" $((SECONDS - started)); }

# Runs a command quietly; shows what it printed only when it fails.
quietly() {
  local log=$build/quickstart.log
  mkdir -p "$build"
  "$@" > "$log" 2>&1 && return
  cat "$log" >&2
  echo "quickstart: error: failed: $*" >&2
  exit 1
}

if [ $setup = yes ]; then
  step "1/4 set-up"
  bash "$root/generator/setup.sh" quickstart
else
  step "1/4 set-up: left out (--no-setup)"
  for tool in cmake g++; do
    command -v $tool > /dev/null || { echo "quickstart: error: $tool is missing and --no-setup was given" >&2; exit 1; }
  done
fi

step "2/4 configure"
generator=(-G "Unix Makefiles")
if command -v ninja > /dev/null; then generator=(-G Ninja); fi
[ -f "$build/CMakeCache.txt" ] && generator=()  # a build directory keeps the generator that it was made with
quietly cmake -S "$root" -B "$build" "${generator[@]}" -DGDN_BUILD_TESTS=OFF -DGDN_WERROR=OFF -DCMAKE_BUILD_TYPE=Release
echo "$build"

step "3/4 build gdn-gen"
cmake --build "$build" --target gdn-gen --parallel "$jobs"

step "4/4 emit, compile, run, check"
status=0
cd "$root"  # specs/ and generated/ are found from here
"$build/generator/tool/gdn-gen" demo || status=$?
verdict=finished
[ $status -eq 0 ] || verdict=failed
printf '\nquickstart: %s in %d s; the program is %s\n' $verdict $((SECONDS - started)) "$build/generator/tool/gdn-gen"
exit $status
