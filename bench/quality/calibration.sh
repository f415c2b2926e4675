#!/usr/bin/env bash
# The domains' calibration sets compared, in all three stages, for one 3-bit scheme: bench/quality.sh calibration [OPTIONS]
# Which set serves which text, how many windows are enough, and whether second moments alone foretell it
# (docs/calibration.md).
set -euo pipefail
shopt -s inherit_errexit nullglob
invoked_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<END_OF_USAGE
bench/quality.sh calibration [OPTIONS] [-- OPTIONS OF adze compare]

  --model DIR    the original; default the bundled model
  --sets DIR     one calibration set per .txt file, but for mixed.txt; default calibration_data/calib
  --texts DIR    one judging text per .txt file, likewise; default calibration_data/heldout
  --windows N    per draw; default 64, and 16 of 128 tokens for the bundled texts, which are short
  --recipe FILE  default recipes/w3-g128.yaml
  --out DIR      where the study stays; default a temporary folder
  --bin DIR      where adze is; otherwise the preset release is built first
END_OF_USAGE
}

refuse() {
  echo "calibration: $*" >&2
  exit 64
}
absolute() { (cd "$invoked_from" && realpath -e -- "$1") || refuse "$1 does not exist"; }

model=$PWD/tests/models/demo-llama
sets=$PWD/calibration_data/calib
texts=$PWD/calibration_data/heldout
recipe=$PWD/recipes/w3-g128.yaml
windows="" out="" bin=""
while [[ $# -gt 0 && "$1" != -- ]]; do
  if [[ "$1" == --help || "$1" == -h ]]; then usage; exit 0; fi
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

if [[ -z "$bin" ]]; then
  source apps/setup.sh
  adze_setup build >&2
  cmake --preset release >/dev/null
  cmake --build --preset release --target adze-compare >&2
  bin=$PWD/build/release/bin
fi
size=(--windows "${windows:-64}")
if [[ "$sets" == "$PWD/calibration_data/calib" ]]; then
  size=(--windows "${windows:-16}" --tokens 128 --protocol lcpp-128)
fi
if [[ -z "$out" ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi

arguments=()
for file in "$sets"/*.txt; do
  if [[ "$file" != */mixed.txt ]]; then arguments+=(--set "$file"); fi
done
for file in "$texts"/*.txt; do
  if [[ "$file" != */mixed.txt ]]; then arguments+=(--text "$file"); fi
done
"$bin/adze-compare" "$model" "${arguments[@]}" --recipe "$recipe" "${size[@]}" -o "$out" "$@"
