#!/usr/bin/env bash
# What a pull request does to the specs: lint, the generated tree, and for every spec or overlay that it changes the
# difference in meaning against the base branch, as Markdown.
#
# usage: spec-review.sh [--base REF] [--gdn-gen PROGRAM] [--summary FILE] [--allow-silent]
#   --base REF        the branch or commit to compare with (origin/main)
#   --gdn-gen PROGRAM the gdn-gen to use (the one on the PATH)
#   --summary FILE    append the Markdown to FILE too ($GITHUB_STEP_SUMMARY where that is set)
#   --allow-silent    a silent difference is no failure: somebody has looked at it
#
# Exit status: 0 nothing to object to; 1 lint or the generated tree is wrong; 2 bad usage; 3 a change that no check of
# shapes and dtypes can see; 4 something can't be judged.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
base=origin/main
program=gdn-gen
summary=${GITHUB_STEP_SUMMARY:-}
allow_silent=no

usage_error() { echo "spec-review: error: $1; see --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --allow-silent) allow_silent=yes ;;
    --base | --gdn-gen | --summary)
      [ $# -ge 2 ] || usage_error "$1 needs a value"
      case "$1" in --base) base=$2 ;; --gdn-gen) program=$2 ;; --summary) summary=$2 ;; esac
      shift ;;
    *) usage_error "unknown option '$1'" ;;
  esac
  shift
done
command -v "$program" > /dev/null || { echo "spec-review: error: no program $program: build it, or give --gdn-gen" >&2; exit 4; }
program=$(command -v "$program")
case "$program" in /*) ;; *) program=$PWD/$program ;; esac
case "$summary" in "" | /*) ;; *) summary=$PWD/$summary ;; esac
cd "$root"
commit=$(git merge-base "$base" HEAD) || { echo "spec-review: error: $base and HEAD have no common commit" >&2; exit 4; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
code=0
worse() {  # 4 outranks 1 outranks 3
  case "$1$code" in
    0*) ;;
    4* | 1[03] | 30) code=$1 ;;
  esac
}
say() {
  printf '%s\n' "$1"
  if [ -n "$summary" ]; then printf '%s\n' "$1" >> "$summary"; fi
}

format=text
if [ -n "${GITHUB_ACTIONS:-}" ]; then format=github; fi
folders=(specs)
if [ -d specs/more ]; then folders+=(specs/more); fi
combined=()
for overlay in specs/engines/*.yaml; do
  [ -e "$overlay" ] || continue
  # Over the first model that it fits; where it fits none, the errors of one are shown.
  carrier=specs/qwen3_5_35b_a3b.yaml
  for model in "$carrier" specs/*.yaml; do
    if "$program" lint "$model+$overlay" > /dev/null 2>&1; then
      carrier=$model
      break
    fi
  done
  combined+=("$carrier+$overlay")
done

say "## Specs"
if lint=$("$program" lint --format $format "${folders[@]}" "${combined[@]}" 2> "$scratch/lint"); then
  say "- lint: ${lint##*$'\n'}"
else
  say "- **lint found errors**"
  cat "$scratch/lint" >&2
  worse 1
fi
if [ $format = github ]; then printf '%s\n' "$lint"; fi
if check=$("$program" check specs generated 2>&1); then
  say "- generated/: $(tail -n 1 <<< "$check")"
else
  say "- **generated/ is not what the specs say**: run \`gdn-gen emit specs --out generated\`"
  printf '%s\n' "$check" >&2
  worse 1
fi

# One spec before and after; `name` is for people.
compare() {
  local name=$1 before=$2 after=$3 status=0
  "$program" diff "$before" "$after" --markdown > "$scratch/diff" 2> "$scratch/error" || status=$?
  case $status in
    0) return ;;
    1 | 3) say ""; say "$(cat "$scratch/diff")" ;;
    *)
      say ""
      say "### $name can't be compared"
      say '```'
      say "$(cat "$scratch/error")"
      say '```' ;;
  esac
  case $status in
    3) if [ $allow_silent = no ]; then worse 3; fi ;;
    0 | 1) ;;
    *) worse 4 ;;
  esac
}

while IFS=$'\t' read -r status file rest; do
  target=${rest:-$file}
  case "$file" in specs/*.yaml) ;; *) continue ;; esac
  case "$status" in
    A*) say ""; say "### \`$file\` is new"; continue ;;
    D*) say ""; say "### \`$file\` is gone"; continue ;;
  esac
  old=$scratch/old/$(dirname "$target")
  mkdir -p "$old"
  git show "$commit:$file" > "$old/$(basename "$target")"
  case "$file" in
    specs/engines/*)
      # An overlay is compared on every model that it fits.
      for model in specs/*.yaml specs/more/*.yaml; do
        "$program" lint "$model+$target" > /dev/null 2>&1 || continue
        compare "$model+$target" "$model+$old/$(basename "$target")" "$model+$target"
      done ;;
    *) compare "$target" "$old/$(basename "$target")" "$target" ;;
  esac
done < <(git diff --name-status --find-renames "$commit" -- specs)

say ""
case $code in
  0) say "Nothing to object to." ;;
  1) say "**Errors: see above.**" ;;
  3) say "**A silent change**: shapes and dtypes stay as they are, numbers do not. Somebody who knows the model has to look." ;;
  4) say "**Something could not be judged.**" ;;
esac
exit "$code"
