#!/usr/bin/env bash
# Do we see what llama.cpp sees? bench/activations.sh --peers DIR --figures FILE [OPTIONS]
# Judges llama.cpp's own files with and without its rounding of activations, beside the perplexity and KL that
# llama-perplexity itself gave for them. Exits 1 where --activations q8 is off by more than 0.5 % (perplexity) or 2 % (KL).
set -euo pipefail
shopt -s inherit_errexit nullglob
invoked_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh

usage() {
  cat <<END
bench/activations.sh --peers DIR --figures FILE [OPTIONS]

  --peers DIR     llama.cpp's files, NAME-TYPE-KIND.gguf, made with an importance matrix
  --figures FILE  llama-perplexity's figures, a table in Markdown: | KIND-TYPE | importance matrix | bytes | perplexity
                  | mean KL | ...
  --model DIR     the original; default the bundled model
  --eval FILE     the text of the figures, windows of 512 tokens
  --bin DIR       where adze-eval is; otherwise the preset release is built first
END
}

absolute() { (cd "$invoked_from" && realpath -e -- "$1"); }
refuse() { echo "activations: $1" >&2; exit 64; }

model=$PWD/tests/models/demo-llama
peers="" figures="" text="" bin=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --help | -h) usage; exit 0 ;;
    --peers) peers=$(absolute "$2") ;;
    --figures) figures=$(absolute "$2") ;;
    --model) model=$(absolute "$2") ;;
    --eval) text=$(absolute "$2") ;;
    --bin) bin=$(absolute "$2") ;;
    *) refuse "unknown option $1: --help" ;;
  esac
  shift 2
done
if [[ -z "$peers" || -z "$figures" || -z "$text" ]]; then refuse "--peers, --figures and --eval are needed: --help"; fi
if [[ -z "$bin" ]]; then build_programs adze-eval; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# theirs FILE: "perplexity KL" of llama.cpp for NAME-TYPE-KIND.gguf.
theirs() {
  local name=${1##*/} type kind
  name=${name%.gguf}
  kind=${name##*-} type=${name%-*}
  type=${type##*-}
  awk -F' *[|] *' -v row="$kind-$type" 'tolower($2) == row && $3 == "yes" { print $5, $6 }' "$figures"
}

files=()
for file in "$peers"/*.gguf; do
  if [[ -z "$(theirs "$file")" ]]; then continue; fi
  files+=("$file")
  echo "$(basename "$file" .gguf) $(theirs "$file")" >> "$work/theirs"
done
if [[ ${#files[@]} -eq 0 ]]; then refuse "no file of $peers has a row in $figures"; fi
for activations in exact q8; do
  "$bin/adze-eval" "${files[@]}" --reference "$model" --text "$text" --audit 0 --activations "$activations" --json -q \
    > "$work/$activations.json"
  awk -v keys="perplexity kl_mean" -f bench/quality/figures.awk "$work/$activations.json" > "$work/$activations"
done
paste -d' ' "$work/theirs" "$work/exact" "$work/q8" | tr '\t' ' ' | awk '
  function off(ours, theirs) { return 100 * (ours / theirs - 1) }
  function wide(x, limit) { return x > limit || x < -limit }
  BEGIN {
    print "| file | llama.cpp: perplexity | mean KL | q8: perplexity | mean KL | off % | exact: perplexity | mean KL | off % |"
    print "|---|---|---|---|---|---|---|---|---|"
  }
  {
    printf "| %s | %.3f | %.6f | %.3f | %.6f | %+.2f, %+.1f | %.3f | %.6f | %+.2f, %+.1f |\n", $1, $2, $3, $6, $7,
      off($6, $2), off($7, $3), $4, $5, off($4, $2), off($5, $3)
    if (wide(off($6, $2), 0.5) || wide(off($7, $3), 2)) failed = 1
  }
  END { exit failed }'
