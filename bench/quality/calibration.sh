#!/usr/bin/env bash
# The domains' calibration sets compared, in all three stages, for one 3-bit scheme: bench/quality.sh calibration [OPTIONS]
# Which set serves which text, how many windows are enough, and whether second moments alone foretell it
# (docs/calibration.md).
set -euo pipefail
shopt -s inherit_errexit nullglob
invoked_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source bench/programs.sh

usage() {
  cat <<END_OF_USAGE
bench/quality.sh calibration [OPTIONS] [-- OPTIONS OF adze compare]

  --model DIR    the original; default the bundled model
  --sets DIR     one calibration set per .txt file, but for mixed.txt; default calibration_data/calib
  --texts DIR    one judging text per .txt file, likewise; default calibration_data/heldout
  --generated    beside them as much text that the model writes itself (adze generate), as the set "generated"; with
                 --out it stays beside the study, as DIR-generated.json, and is used again
  --windows N    per draw; default 64, and 16 of 128 tokens for the bundled texts, which are short
  --recipe FILE  default recipes/w3-g128.yaml
  --out DIR      where the study stays; default a temporary folder
  --bin DIR      where adze is; otherwise the preset release is built first

How many windows are enough, by doubling:      bench/quality.sh calibration [OPTIONS] -- --sizes 2,4,8,16,32
What text of the model's own is worth:         bench/quality.sh calibration [OPTIONS] --generated -- --no-sweep
END_OF_USAGE
}

refuse() {
  echo "calibration: $*" >&2
  exit 64
}
absolute() { (cd "$invoked_from" && realpath -e -- "$1") || refuse "$1 does not exist"; }

# given OPTION DEFAULT [OPTIONS OF adze compare]: the option's value among them, or what adze compare takes without
given() {
  local name=$1 value=$2
  shift 2
  while [[ $# -gt 1 ]]; do
    if [[ "$1" == "$name" ]]; then value=$2; fi
    shift
  done
  echo "$value"
}

model=$PWD/tests/models/demo-llama
sets=$PWD/calibration_data/calib
texts=$PWD/calibration_data/heldout
recipe=$PWD/recipes/w3-g128.yaml
windows="" out="" bin="" generated=""
while [[ $# -gt 0 && "$1" != -- ]]; do
  if [[ "$1" == --help || "$1" == -h ]]; then usage; exit 0; fi
  if [[ "$1" == --generated ]]; then generated=1; shift; continue; fi
  if [[ $# -lt 2 ]]; then refuse "$1 needs a value, or is unknown: --help"; fi
  case "$1" in
    --model) model=$(absolute "$2") ;;
    --sets) sets=$(absolute "$2") ;;
    --texts) texts=$(absolute "$2") ;;
    --windows) windows=$2 ;;
    --recipe) recipe=$(absolute "$2") ;;
    --out) out=$(cd "$invoked_from" && realpath -- "$2") ;;
    --bin) bin=$(absolute "$2") ;;
    *) refuse "unknown option $1: --help" ;;
  esac
  shift 2
done
if [[ $# -gt 0 ]]; then shift; fi

if [[ -z "$bin" ]]; then build_programs adze-compare adze-generate; fi
if [[ "$sets" == "$PWD/calibration_data/calib" ]]; then
  tokens=128
  size=(--windows "${windows:=16}" --tokens "$tokens" --protocol "lcpp-$tokens")
else
  tokens=$(given --tokens 512 "$@")
  size=(--windows "${windows:=64}")
fi
own=""
if [[ -z "$out" ]]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  out=$work/study own=$work/generated.json
fi

arguments=()
if [[ -n "$generated" ]]; then
  own=${own:-$out-generated.json}
  if [[ ! -e "$own" ]]; then
    "$bin/adze-generate" "$model" --windows "$((windows * $(given --draws 3 "$@")))" --tokens "$tokens" -o "$own" >&2
  fi
  arguments+=(--set "generated=$own")
fi
for file in "$sets"/*.txt; do
  if [[ "$file" != */mixed.txt ]]; then arguments+=(--set "$file"); fi
done
for file in "$texts"/*.txt; do
  if [[ "$file" != */mixed.txt ]]; then arguments+=(--text "$file"); fi
done
"$bin/adze-compare" "$model" "${arguments[@]}" --recipe "$recipe" "${size[@]}" -o "$out" "$@"
