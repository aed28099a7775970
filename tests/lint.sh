#!/usr/bin/env bash
# What the compiler of the tests does not see: a second build with clang (warnings are errors there too) with clang-tidy
# on every file of the libraries and the tool, and clang-format on every source. Both tools are pinned to version 19,
# since other versions format and warn differently.
#
# usage: lint.sh [--fix] [--build DIR] [--jobs N]
#   --fix        format the sources in place, and stop
#   --build DIR  the build directory of the clang build (build/lint)
#   --jobs N     compile with N processes (one per core)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/lint
jobs=$(nproc)
fix=no

usage_error() { echo "lint: error: $1; see --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --fix) fix=yes ;;
    --build | --jobs)
      [ $# -ge 2 ] || usage_error "$1 needs a value"
      if [ "$1" = --build ]; then build=$2; else jobs=$2; fi
      shift ;;
    *) usage_error "unknown option '$1'" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage_error "--jobs takes a positive number, not '$jobs'"
build=$(realpath -m "$build")

for tool in clang-format-19 clang-tidy-19 clang++-19; do
  command -v $tool > /dev/null || { echo "lint: error: $tool is missing: run bash generator/setup.sh tests" >&2; exit 1; }
done

cd "$root"
# goldens are what the emitter prints, to the byte
mapfile -d '' -t sources < <(find generator templates runtime tests -path tests/golden/expected -prune -o -type f \( -name '*.h' -o -name '*.cpp' \) -print0 | sort -z)
if [ $fix = yes ]; then
  clang-format-19 -i "${sources[@]}"
  exit 0
fi

failed=no
echo "clang-format: ${#sources[@]} files"
if ! clang-format-19 --dry-run -Werror "${sources[@]}"; then
  echo "lint: error: format differs: bash tests/lint.sh --fix" >&2
  failed=yes
fi

for script in generator/*.sh tests/*.sh .ci/run; do bash -n "$script" || failed=yes; done

# Deprecation: libstdc++ 12's own stable_sort calls a function that it calls deprecated, and clang-tidy looks into it.
# -O0: warnings do not need the optimiser. Through CMake, so that only what changed since the last time is looked at.
generator=()
if [ ! -f "$build/CMakeCache.txt" ] && command -v ninja > /dev/null; then generator=(-G Ninja); fi
cmake -S "$root" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O0 -Wno-deprecated-declarations" -DGDN_BUILD_TESTS=OFF \
  -DGDN_WERROR=ON -DCMAKE_CXX_COMPILER=clang++-19 "-DCMAKE_CXX_CLANG_TIDY=clang-tidy-19;--quiet;--warnings-as-errors=*" > /dev/null
keep_going=(-k)
if [ -f "$build/build.ninja" ]; then keep_going=(-k 0); fi
# clang-tidy counts what it suppressed in system headers, in a line for each file: no news.
cmake --build "$build" --parallel "$jobs" -- "${keep_going[@]}" 2>&1 | { grep -vE '^[0-9]+ warnings? generated\.$' || true; } ||
  failed=yes

[ $failed = no ] || { echo "lint: failed" >&2; exit 1; }
echo "lint: clean"
