#!/usr/bin/env bash
# What only a CUDA GPU can show, in one command: the device tests, every spec against the oracle, compute-sanitizer, and
# the timings. Prints a table and one verdict.
#
# usage: device.sh [--only PHASES] [--sanitize] [--bench DIR] [--no-build] [--build DIR] [--jobs N] [--seed N]
#                  [--specs LIST] [--commit C]
#   --only PHASES  of tests,verify,sanitize,bench those that are named, with commas between them; without it tests and
#                  verify run, and sanitize and bench where their options ask for them
#   --sanitize     compute-sanitizer (memcheck, racecheck, initcheck) over a short verify of each operation
#   --bench DIR    time launches and write the JSON files for tests/bench/results there
#   --no-build     take the build directory as it is, such as one that was built on another machine
#   --build DIR    the build directory (build/tests)
#   --jobs N       build, and run kernels' compilers, with N processes (one per core)
#   --seed N       of verify's inputs (1)
#   --specs LIST   what verify runs, names or files with commas between them (specs, their engines' overlays, tests/fuzz)
#   --commit C     what the JSON files call the measured commit (git's HEAD)
#
# Exit status: 0 everything was right, or there is no GPU here: [SKIP]; 1 something failed; 2 bad usage.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/tests
jobs=$(nproc)
seed=1
rebuild=yes
sanitize=no
bench=
specs=
commit=
phases=()
known_phases=(tests verify sanitize bench)

usage_error() { echo "device: error: $1; see --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --sanitize) sanitize=yes ;;
    --no-build) rebuild=no ;;
    --only | --bench | --build | --jobs | --seed | --specs | --commit)
      [ $# -ge 2 ] || usage_error "$1 needs a value"
      case "$1" in
        --only) IFS=, read -ra phases <<< "$2"
          for phase in "${phases[@]}"; do
            [[ " ${known_phases[*]} " == *" $phase "* ]] || usage_error "unknown phase '$phase' (known: ${known_phases[*]})"
          done ;;
        --bench) bench=$2 ;;
        --build) build=$2 ;;
        --jobs) jobs=$2 ;;
        --seed) seed=$2 ;;
        --specs) specs=$2 ;;
        --commit) commit=$2 ;;
      esac
      shift ;;
    *) usage_error "unknown option '$1'" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage_error "--jobs takes a positive number, not '$jobs'"
[[ $seed =~ ^[0-9]+$ ]] || usage_error "--seed takes a number, not '$seed'"
if [ ${#phases[@]} -eq 0 ]; then
  phases=(tests verify)
  if [ $sanitize = yes ]; then phases+=(sanitize); fi
  if [ -n "$bench" ]; then phases+=(bench); fi
fi
wanted() { [[ " ${phases[*]} " == *" $1 "* ]]; }
if wanted bench && [ -z "$bench" ]; then usage_error "the phase bench needs --bench DIR"; fi
build=$(realpath -m "$build")

# WSL has its driver behind /dev/dxg.
if ! compgen -G '/dev/nvidia[0-9]*' > /dev/null && [ ! -e /dev/dxg ] &&
  ! { command -v nvidia-smi > /dev/null && nvidia-smi -L 2> /dev/null | grep -q '^GPU'; }; then
  echo "[SKIP] no CUDA GPU on this machine, or no NVIDIA driver"
  exit 0
fi

if [ $rebuild = yes ]; then
  generator=()
  if [ ! -f "$build/CMakeCache.txt" ] && command -v ninja > /dev/null; then generator=(-G Ninja); fi
  cmake -S "$root" -B "$build" "${generator[@]}" -DGDN_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=Release
  targets=(gdn-gen)
  if wanted tests; then
    while read -r name; do targets+=("$name"); done < <(sed -n 's/^gdn_add_test(\(device_[a-z_0-9]*\) .*/\1/p' "$root/tests/device/CMakeLists.txt")
  fi
  cmake --build "$build" --parallel "$jobs" --target "${targets[@]}"
fi
gdn_gen=$build/generator/tool/gdn-gen
[ -x "$gdn_gen" ] || { echo "device: error: $gdn_gen is not there: build it, or leave --no-build out" >&2; exit 1; }

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
rows=$logs/rows
: > "$rows"
summary=()

# one PHASE NAME LIMIT COMMAND...: runs it and keeps a line of the table; what it printed is shown where it failed. Ends
# well, so that xargs goes on. What is under compute-sanitizer may not end by being asked. There is a GPU here, so a driver or compiler that is missing (4) is no reason to skip.
one() {
  local phase=$1 name=$2 limit=$3 log status=0 verdict started=$SECONDS
  shift 3
  log=$(mktemp -p "$logs")
  timeout -k 10 "$limit" "$@" > "$log" 2>&1 < /dev/null || status=$?
  case $status in
    0) verdict=good; if grep -q '^\[SKIP\]' "$log"; then verdict=$(grep -m 1 '^\[SKIP\]' "$log"); fi ;;
    4) verdict="FAILED: $(grep -m 1 '^gdn-gen: ' "$log" || echo "gdn-gen can't judge here")" ;;
    124 | 137) verdict="FAILED: more than $limit s" ;;
    *) verdict="FAILED: exit status $status" ;;
  esac
  printf '%-9s %-52s %5d s   %s\n' "$phase" "$name" $((SECONDS - started)) "$verdict" | tee -a "$rows"
  case $verdict in FAILED*) sed 's/^/    /' "$log" | tail -n 60 ;; esac
}
export -f one
export logs rows

phase_started=0
begin() { phase_started=$SECONDS; printf '\n== %s\n' "$1"; }
finish() {
  local failed
  failed=$(grep -c "^$1 .*FAILED" "$rows" || true)
  summary+=("$(printf '%-9s %4d run, %d failed %7d s' "$1" "$(grep -c "^$1 " "$rows" || true)" "$failed" $((SECONDS - phase_started)))")
}

# Names of a Catch2 binary's cases, a line each; 2.x says how many there are by its exit status.
cases_of() {
  if "$1" --help | grep -q list-test-names-only; then
    "$1" --list-test-names-only || true
  else
    "$1" --list-tests --verbosity quiet
  fi
}

if wanted tests; then
  begin "device tests"
  built_for=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt" 2> /dev/null || true)
  if [ -n "$built_for" ] && [ ! -d "$built_for/specs" ]; then
    printf 'tests     %-52s %5d s   %s\n' "all" 0 "FAILED: they look for specs in $built_for: link it to $root" | tee -a "$rows"
  else
    # A process of NVRTC compiles one kernel after the other, some cases for minutes: each case is a process of its own.
    for binary in "$build"/tests/device/device_*; do
      if ! [ -f "$binary" ] || ! [ -x "$binary" ]; then continue; fi
      mapfile -t cases < <(cases_of "$binary")
      if [ ${#cases[@]} -eq 0 ]; then printf '%s\0' tests "$(basename "$binary"): no case is listed" 1800 false ""; fi
      for case in "${cases[@]}"; do
        printf '%s\0' tests "$(basename "$binary"): $case" 1800 "$binary" "\"$case\""
      done
    done | xargs -0 -P "$jobs" -n $((3 + 2)) bash -c 'one "$@"' one
  fi
  finish tests
fi

# What is laid over what, where an engine's overlay or a benchmark's layout makes other kernels.
overlaid=(qwen3_5_27b+vllm_sd+mtp1 qwen3_5_27b+vllm_sd+mtp3 qwen3_next_80b+vllm_ds+mtp3 qwen3_next_80b+vllm_ds+replay3
  olmo_hybrid_7b+transformers+replay3 qwen3_next_80b+vllm_ds qwen3_next_80b+vllm_sd qwen3_next_80b+transformers
  qwen3_next_80b+llama_cpp_grouped qwen3_next_80b+sglang qwen3_next_80b+flashinfer qwen3_next_80b+fp8_aiter
  qwen3_next_80b+fp8_aiter_triton qwen3_next_80b+fp8_vllm_group qwen3_next_80b+fp8_vllm_token olmo_hybrid_7b+fp8_vllm_group
  kimi_linear_48b+fp8_vllm_token kimi_linear_48b+sglang_kda qwen3_next_80b+vllm_core kimi_linear_48b+vllm_core)
for layout in "$root"/tests/bench/layouts/*.yaml; do overlaid+=("qwen3_next_80b+$layout"); done

if wanted verify; then
  begin "every spec against the oracle"
  # xargs takes words: three for the table, then those of the command.
  list=("$root"/specs/*.yaml "$root"/specs/more/*.yaml "$root"/tests/fuzz/*.yaml "${overlaid[@]}")
  if [ -n "$specs" ]; then IFS=, read -ra list <<< "$specs"; fi
  for spec in "${list[@]}"; do
    shape=(--rows 7 --steps 4)
    if [[ $spec != *tests/fuzz/* ]]; then shape=(--rows 5 --steps 1); fi
    printf '%s\0' verify "${spec//"$root/"/}" 900 "$gdn_gen" verify "$spec" --on cuda --seed "$seed" "${shape[@]}"
  done | (cd "$root" && xargs -0 -P "$jobs" -n $((3 + 11)) bash -c 'one "$@"' one)
  finish verify
fi

if wanted sanitize; then
  begin "compute-sanitizer"
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2> /dev/null | tail -n 1 || true)
  if [ -z "$sanitizer" ]; then
    printf 'sanitize  %-52s %5d s   %s\n' "all" 0 "FAILED: no compute-sanitizer on PATH or in /usr/local/cuda" | tee -a "$rows"
  else
    # The short cases that between them have every operation, every state and every scheme of drafts.
    while read -r spec operations; do
      for operation in $operations; do
        for tool in memcheck racecheck initcheck; do
          printf '%s\0' sanitize "$operation $spec $tool" 900 "$sanitizer" --tool "$tool" --error-exitcode 9 "$gdn_gen" verify \
            "tests/fuzz/$spec.yaml" --on cuda --rows 3 --steps 1 --operation "$operation"
        done
      done
    done << 'CASES' | (cd "$root" && xargs -0 -P "$jobs" -n $((3 + 16)) bash -c 'one "$@"' one)
fuzz_gdn unpack conv_update gating delta_update norm_quant decode conv_prefill chunk_delta prefill
fuzz_kda unpack conv_update gating delta_update norm_quant decode conv_prefill chunk_delta prefill
fuzz_orders decode
fuzz_split decode
fuzz_quant_head norm_quant decode
fuzz_quant_token norm_quant
fuzz_quant_straddle norm_quant
fuzz_state_fp8 decode
fuzz_state_chance_bf16 decode
fuzz_spec_slots decode_spec state_commit
fuzz_spec_intermediate decode_spec state_commit
fuzz_spec_replay decode_spec state_commit
fuzz_spec_kda decode_spec state_commit
CASES
  fi
  finish sanitize
fi

if wanted bench; then
  begin "timings"
  mkdir -p "$bench"
  bench=$(realpath "$bench")
  if [ -z "$commit" ]; then commit=$(git -C "$root" rev-parse HEAD 2> /dev/null || echo "not given"); fi
  cd "$root"
  # One at a time: they share the memory that they measure.
  timed() {
    local name=$1
    shift
    one bench "$name" 1800 "$gdn_gen" bench "$@" --on cuda --commit "$commit" --json "$bench/$name.json"
  }
  layouts=()
  for layout in tests/bench/layouts/*.yaml; do layouts+=("qwen3_next_80b+$layout"); done
  timed h200_decode qwen3_next_80b qwen3_next_80b+fp8_aiter qwen3_5_27b olmo_hybrid_7b qwen3_next_80b+tests/bench/layouts/vk_bf16.yaml \
    kimi_linear_48b --batch 1,4,16,64,256 --edges plain,programmatic
  timed h200_layouts qwen3_next_80b qwen3_next_80b+vllm_ds "${layouts[@]}" --batch 64 --edges plain
  timed h200_decode_spec qwen3_next_80b+vllm_sd+mtp3 qwen3_next_80b+vllm_sd+replay3 qwen3_5_27b+vllm_sd+mtp3 \
    qwen3_5_27b+vllm_sd+replay3 qwen3_next_80b+vllm_sd+mtp3+tests/bench/layouts/vk_bf16.yaml \
    qwen3_next_80b+vllm_sd+replay3+tests/bench/layouts/vk_bf16.yaml --operation decode_spec --batch 1,4,16,64 --edges plain,programmatic
  timed h200_state_commit qwen3_next_80b+vllm_sd+replay3 --operation state_commit --batch 1,16,64
  timed h200_chunk_delta qwen3_next_80b qwen3_5_27b kimi_linear_48b --operation chunk_delta --lengths 2048,1024x8,8192,8192x4,32768
  timed h200_prefill qwen3_next_80b kimi_linear_48b --operation prefill --lengths 1024x8,8192
  finish bench
fi

printf '\n== summary (%d s)\n' "$SECONDS"
printf '%s\n' "${summary[@]}"
if skips=$(grep -ho '\[SKIP\].*' "$rows" | sort -u); then printf '\nnot run here, and why:\n%s\n' "$skips"; fi
if grep -q FAILED "$rows"; then
  printf '\n%s\n' "$(grep FAILED "$rows")"
  echo "device: failed: see above" >&2
  exit 1
fi
echo "device: everything was right"
