#!/usr/bin/env bash
# Installs what building and running gdn-gen needs on Debian 12 or Ubuntu 24.04: packages by apt-get, NVRTC from PyPI
# when no CUDA toolkit has it. Does nothing, and asks nobody, when all is there.
#
# usage: setup.sh quickstart   what builds gdn-gen, and NVRTC
#        setup.sh tests        the same, the test framework, and every compiler that a test needs
#
# Exit status: 0 all is there; 1 something is missing and could not be installed (each thing is named); 2 bad usage.
# NVRTC goes to build/toolchain, or to $GDN_TOOLCHAIN_DIR where that is set.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
toolchain=${GDN_TOOLCHAIN_DIR:-$root/build/toolchain}

die() { printf 'setup: error: %s\n' "$1" >&2; shift; for line in "$@"; do printf 'setup: %s\n' "$line" >&2; done; exit 1; }
say() { printf 'setup: %s\n' "$*"; }

case "${1:-}" in
  quickstart | tests) profile=$1 ;;
  -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
  *) echo "setup: error: expected one argument, quickstart or tests, not '${*:-}'" >&2; exit 2 ;;
esac
[ $# -eq 1 ] || { echo "setup: error: expected one argument, not $#" >&2; exit 2; }

[ "$(uname -sm)" = "Linux x86_64" ] || die "this machine is $(uname -sm); gdn-gen is built on x86-64 Linux"
if ! command -v apt-get > /dev/null || ! command -v dpkg-query > /dev/null; then
  die "this system has no apt-get; the set-up knows Debian 12 and Ubuntu 24.04" \
    "install g++ 12 or newer, CMake 3.22 or newer, Ninja or Make, yaml-cpp, Xbyak, fmt, nlohmann-json and CLI11" \
    "(for the tests also Catch2, clang-19, lld-19, llvm-19, clang 20 or newer with its lld, and hiprtc)," \
    "put NVRTC into $toolchain or install a CUDA toolkit, and give the option --no-setup"
fi

# --- packages ---

build_packages=(g++ cmake ninja-build libyaml-cpp-dev libxbyak-dev libfmt-dev nlohmann-json3-dev libcli11-dev)
test_packages=(catch2 git make pkg-config python3 python3-jsonschema python3-yaml clang-19 lld-19 llvm-19 clang-format-19 clang-tidy-19 libamdhip64-5 libamdhip64-dev)
# The browser that opens the page of explain. Ubuntu has it as a snap only, which a container cannot install.
# shellcheck disable=SC1091
[ "$(. /etc/os-release && echo "${ID:-}")" = ubuntu ] || test_packages+=(chromium-headless-shell)
pip_packages=(python3 python3-pip ca-certificates)
# gfx950 needs clang 20 or newer. Debian 12 has 22 (bookworm-security), Ubuntu 24.04 has 20; the newest one is taken.
new_clangs=(22 21 20)
# The headers that hiprtc builds in: a package that libamdhip64-5 does not depend on.
hiprtc_headers=libhiprtc-builtins5

installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2> /dev/null | sed -n 's/^ii *//p')
has_package() { grep -Fxq -- "$1" <<< "$installed"; }

# A tool that was built by hand or came with pip is as good as the package.
has_tool() {
  case "$1" in
    g++) command -v g++ > /dev/null && echo '#include <string>' | g++ -std=c++17 -fsyntax-only -x c++ - 2> /dev/null ;;
    cmake) command -v cmake > /dev/null && version_at_least "$(cmake --version | sed -n '1s/[^0-9]*//p')" 3.22 ;;
    git | make | pkg-config) command -v "$1" > /dev/null ;;
    chromium-headless-shell) command -v chromium-headless-shell chromium chromium-browser google-chrome > /dev/null ;;
    ninja-build) command -v ninja > /dev/null ;;
    python3) command -v python3 > /dev/null ;;
    python3-pip) command -v python3 > /dev/null && python3 -m pip --version > /dev/null 2>&1 ;;
    *) return 1 ;;
  esac
}
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
is_there() { has_package "$1" || has_tool "$1"; }

has_new_clang() {
  local n
  for n in "${new_clangs[@]}"; do has_package "clang-$n" && has_package "lld-$n" && return 0; done
  return 1
}

# --- NVRTC ---

# Where a CUDA toolkit (12 or newer: sm_90a), or an earlier run of this script, has libnvrtc.so; nothing when neither has.
find_nvrtc() {
  local dir file
  for dir in "$toolchain" "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /usr/local/cuda-[0-9]* /usr/lib/x86_64-linux-gnu; do
    [ -d "${dir:-/nonexistent}" ] || continue
    for file in "$dir"/{nvidia/cu13/lib,nvidia/cuda_nvrtc/lib,lib64,targets/x86_64-linux/lib,lib,.}/libnvrtc.so.1[2-9]*; do
      [ -e "$file" ] && { printf '%s\n' "$file"; return 0; }
    done
  done
  return 0
}

# A driver loads kernels of its own CUDA version or older; with no driver the newer compiler serves.
nvrtc_wheel() {
  local driver=
  if command -v nvidia-smi > /dev/null; then
    driver=$(nvidia-smi 2> /dev/null | sed -n 's/.*CUDA Version: *\([0-9][0-9]*\).*/\1/p' | head -n 1)
  fi
  if [ -n "$driver" ] && [ "$driver" -lt 13 ]; then
    printf '%s\n' 'nvidia-cuda-nvrtc-cu12==12.9.86' 210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4
  else
    printf '%s\n' 'nvidia-cuda-nvrtc==13.0.88' ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
  fi
}

# Downloads the wheel, checks its hash, unpacks the library, its builtins and its licence, and moves them into place whole.
install_nvrtc() {
  local requirement hash stage
  { read -r requirement; read -r hash; } < <(nvrtc_wheel)
  say "NVRTC: no CUDA toolkit found; downloading $requirement from PyPI (90 MB)"
  mkdir -p "$toolchain" 2> /dev/null || die "cannot make the directory $toolchain" "missing: NVRTC"
  stage=$(mktemp -d "$toolchain/.stage.XXXXXX") || die "cannot write to $toolchain" "missing: NVRTC"
  trap 'rm -rf "'"$stage"'"' EXIT
  printf '%s --hash=sha256:%s\n' "$requirement" "$hash" > "$stage/requirements.txt"
  if ! python3 -m pip download --quiet --no-deps --only-binary :all: --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 --require-hashes \
    --retries 2 --disable-pip-version-check --dest "$stage" -r "$stage/requirements.txt" > "$stage/log" 2>&1; then
    tail -n 5 "$stage/log" >&2
    die "PyPI gave no $requirement" "missing: NVRTC (NVIDIA's run-time compiler)" \
      "fix: connect this machine to PyPI, or install a CUDA toolkit, or unpack that wheel into $toolchain," \
      "or go on without it: --no-setup"
  fi
  mkdir "$stage/unpacked"
  python3 - "$stage" << 'PYTHON'
import glob, sys, zipfile
stage = sys.argv[1]
with zipfile.ZipFile(glob.glob(stage + "/*.whl")[0]) as wheel:
    for name in wheel.namelist():
        if "libnvrtc" in name and ".alt." not in name or name.endswith("License.txt"):
            wheel.extract(name, stage + "/unpacked")
PYTHON
  mkdir -p "$toolchain/nvidia"
  local part
  for part in "$stage"/unpacked/nvidia/*; do
    rm -rf "$toolchain/nvidia/$(basename "$part")"
    mv "$part" "$toolchain/nvidia/"
  done
  cp "$stage"/unpacked/*.dist-info/licenses/License.txt "$toolchain/nvidia/License.txt"
  rm -rf "$stage"
  trap - EXIT
}

# --- what is missing, and getting it ---

nvrtc=$(find_nvrtc)
wanted=("${build_packages[@]}")
[ "$profile" = tests ] && wanted+=("${test_packages[@]}")
[ -z "$nvrtc" ] && wanted+=("${pip_packages[@]}")

missing_packages() {
  local name
  for name in "${wanted[@]}"; do is_there "$name" || printf '%s\n' "$name"; done | sort -u
  if [ "$profile" = tests ] && ! has_new_clang; then printf '%s\n' "clang-$new_clang" "lld-$new_clang"; fi
}

# shellcheck disable=SC1091
new_clang=$(. /etc/os-release && [ "${ID:-}" = ubuntu ] && echo 20 || echo 22)
mapfile -t missing < <(missing_packages)
# Everything that is missing, for people: the packages, and NVRTC where it has to come from PyPI.
all_missing() { printf 'missing: %s%s' "${missing[*]}" "$([ -n "$nvrtc" ] || echo ', and NVRTC (PyPI: nvidia-cuda-nvrtc)')"; }
if [ ${#missing[@]} -gt 0 ]; then
  become=()
  if [ "$(id -u)" -ne 0 ]; then
    fix="fix: run this as root or with sudo, or have an administrator run: apt-get install --no-install-recommends ${missing[*]}"
    command -v sudo > /dev/null || die "packages are missing, this user is not root and there is no sudo" "$(all_missing)" "$fix"
    if ! sudo -n true 2> /dev/null; then
      [ -t 0 ] || die "packages are missing, and sudo asks for a password where nobody can type one" "$(all_missing)" "$fix"
      say "packages are missing; sudo asks for your password to install: ${missing[*]}"
      sudo -v || die "packages are missing and sudo refused" "$(all_missing)" "$fix"
    fi
    become=(sudo env)
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
      [ -n "${!name:-}" ] && become+=("$name=${!name}")
    done
  fi
  apt() { "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=300 "$@"; }

  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  say "apt-get update"
  apt update > "$log" 2>&1 || true  # a failing third-party source need not matter: what counts is what can be installed
  # Every name is asked for in one go: apt-cache takes a while to open its lists.
  candidates=$(apt-cache policy "${missing[@]}" $hiprtc_headers "${new_clangs[@]/#/clang-}" "${new_clangs[@]/#/lld-}" 2> /dev/null |
    awk '/^[^ ].*:$/ { name = substr($0, 1, length($0) - 1) } $1 == "Candidate:" && $2 != "(none)" { print name }')
  for n in "${new_clangs[@]}"; do
    if grep -Fxq "clang-$n" <<< "$candidates" && grep -Fxq "lld-$n" <<< "$candidates"; then new_clang=$n; break; fi
  done
  mapfile -t missing < <(missing_packages)
  if [[ " ${missing[*]} " == *" libamdhip64-5 "* ]] && grep -Fxq $hiprtc_headers <<< "$candidates"; then
    missing+=("$hiprtc_headers")
  fi
  unknown=()
  for name in "${missing[@]}"; do grep -Fxq -- "$name" <<< "$candidates" || unknown+=("$name"); done
  if [ ${#unknown[@]} -gt 0 ]; then
    grep -E '^(E|W|Err)' "$log" | head -n 5 >&2 || true
    die "this system's package sources do not offer: ${unknown[*]}" "$(all_missing)" \
      "fix: check the network; on Debian 12 have bookworm and bookworm-security in the sources, on Ubuntu 24.04 universe and noble-updates"
  fi
  say "apt-get install ${missing[*]}"
  if ! apt install -y --no-install-recommends "${missing[@]}" > "$log" 2>&1; then
    tail -n 15 "$log" >&2
    installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii *//p')
    mapfile -t missing < <(missing_packages)
    die "apt-get install failed (its last lines are above)" "$(all_missing)" "fix: check the network and the free disk space, then run this again"
  fi
  say "installed ${#missing[@]} packages"
fi

if [ -z "$nvrtc" ]; then
  install_nvrtc
  nvrtc=$(find_nvrtc)
  [ -n "$nvrtc" ] || die "the wheel held no libnvrtc.so" "missing: NVRTC"
fi
say "all is there ($profile); NVRTC: $nvrtc"
