#!/usr/bin/env bash
# The whole test suite, from nothing: installs what is missing, builds everything with warnings as errors, checks format
# and lint, and runs every test.
#
# usage: run.sh [--label L]... [--no-setup] [--no-lint] [--build DIR] [--jobs N]
#   --label L    only the tests of this label, and no lint: unit, error, golden, compile, simt, cpu, device, integration;
#                repeat it for more than one
#   --no-setup   install nothing
#   --no-lint    leave out tests/lint.sh (a second build with clang, clang-tidy, clang-format)
#   --build DIR  the build directory (build/tests)
#   --jobs N     compile and test with N processes (one per core)
#
# Exit status: 0 every test passed (or says why it can't run here: [SKIP]); 1 something failed; 2 bad usage.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/tests
jobs=$(nproc)
setup=yes
lint=yes
known_labels=(unit error golden compile simt cpu device integration)
labels=()

usage_error() { echo "run: error: $1; see --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --no-setup) setup=no ;;
    --no-lint) lint=no ;;
    --label | --build | --jobs)
      [ $# -ge 2 ] || usage_error "$1 needs a value"
      case "$1" in
        --label) [[ " ${known_labels[*]} " == *" $2 "* ]] || usage_error "unknown label '$2' (known: ${known_labels[*]})"
          labels+=("$2") ;;
        --build) build=$2 ;;
        --jobs) jobs=$2 ;;
      esac
      shift ;;
    *) usage_error "unknown option '$1'" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage_error "--jobs takes a positive number, not '$jobs'"
build=$(realpath -m "$build")
[ ${#labels[@]} -gt 0 ] && lint=no

export GDN_TOOLCHAIN_DIR=${GDN_TOOLCHAIN_DIR:-$root/build/toolchain}
started=$SECONDS
summary=()
step_name=
step_started=0
begin() { step_name=$1; step_started=$SECONDS; printf '\n== %s\n' "$1"; }
finish() { summary+=("$(printf '%-28s %5d s   %s' "$step_name" $((SECONDS - step_started)) "$1")"); }

begin "set-up"
if [ $setup = yes ]; then bash "$root/generator/setup.sh" tests; else echo "left out (--no-setup)"; fi
finish ok

begin "configure"
generator=()
if [ ! -f "$build/CMakeCache.txt" ] && command -v ninja > /dev/null; then generator=(-G Ninja); fi
cmake -S "$root" -B "$build" "${generator[@]}" -DGDN_BUILD_TESTS=ON -DGDN_WERROR=ON -DCMAKE_BUILD_TYPE=Release
finish ok

begin "build"
cmake --build "$build" --parallel "$jobs"
finish ok

failed=no
if [ $lint = yes ]; then
  begin "lint"
  if bash "$root/tests/lint.sh" --jobs "$jobs"; then finish ok; else finish FAILED; failed=yes; fi
fi

begin "tests${labels:+: ${labels[*]}}"
select=()
if [ ${#labels[@]} -gt 0 ]; then select=(-L "^($(IFS='|'; echo "${labels[*]}"))$"); fi
log=$build/ctest.log
if (cd "$build" && ctest --output-on-failure --no-tests=error --timeout 600 --parallel "$jobs" "${select[@]}") 2>&1 | tee "$log"; then
  finish ok
else
  finish FAILED
  failed=yes
fi

printf '\n== summary (%d s)\n' $((SECONDS - started))
printf '%s\n' "${summary[@]}"
if skips=$(grep -ho '\[SKIP\].*' "$build/Testing/Temporary/LastTest.log" 2> /dev/null | sort -u); then
  printf '\nnot run on this machine, and why:\n%s\n' "$skips"
fi
# ctest's own count closes the output, as the one line that says how it went.
echo
grep -E '^[0-9]+% tests passed' "$log" | tail -n 1 || true
[ $failed = no ] || { echo "run: failed: see above" >&2; exit 1; }
