#!/usr/bin/env bash
# Predicted and measured KL over sizes: bench/front.sh [OPTIONS]
# Block linears choose among five K-quants at ten budgets of bits per weight of theirs, embedding and head in F16. `sum` is
# what the chosen options' losses add up to, `fitted` what adze allocate expects after it has judged whole models on
# calibration windows, `measured` the KL of the stitched model on text that was not calibrated with.
set -euo pipefail
shopt -s inherit_errexit
invoked_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh

usage() {
  cat <<END
bench/front.sh [OPTIONS]

  --model DIR          the original; default the bundled model
  --calibration FILE   default calibration_data/mixed.yaml, its first 64 windows of 512 tokens
  --eval FILE          what to judge on; default calibration_data/heldout.yaml
  --bits "N N ..."     budgets; default 2.8 3 3.25 3.5 3.75 4 4.5 5 5.5 6
  --bin DIR            where adze is; otherwise the preset release is built first
END
}

absolute() { (cd "$invoked_from" && realpath -e -- "$1"); }

model=$PWD/tests/models/demo-llama
calibration=$PWD/calibration_data/mixed.yaml
text=$PWD/calibration_data/heldout.yaml
budgets="2.8 3 3.25 3.5 3.75 4 4.5 5 5.5 6" bin=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --help | -h) usage; exit 0 ;;
    --model) model=$(absolute "$2") ;;
    --calibration) calibration=$(absolute "$2") ;;
    --eval) text=$(absolute "$2") ;;
    --bits) budgets=$2 ;;
    --bin) bin=$(absolute "$2") ;;
    *) echo "front: unknown option $1: --help" >&2; exit 64 ;;
  esac
  shift 2
done
if [[ -z "$bin" ]]; then build_programs adze-calibrate adze-allocate adze-eval; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# value KEY FILE: the first number of that name.
value() { grep -o "\"$1\": *[0-9.e+-]*" "$2" | sed -n '1s/.*: *//p'; }

"$bin/adze-calibrate" "$model" --set "$calibration" --windows 64 --tokens 512 --seed 0 -o "$work/stats" -q > /dev/null

# recipe SIZE
recipe() {
  cat > "$work/choose.yaml" <<END
adze: 1
calibration: { set: "$calibration", windows: 64, tokens: 512, seed: 0 }
schemes:
  q2: { grid: gguf/q2_k }
  q3: { grid: gguf/q3_k }
  q4: { grid: gguf/q4_k }
  q5: { grid: gguf/q5_k }
  q6: { grid: gguf/q6_k }
rules:
  - { modules: "lm_head", store: f16 }
  - { modules: "embed_tokens", store: f16 }
  - { modules: "layers.**", choose: [q2, q3, q4, q5, q6] }
budget: { size: $1 B }
END
}

# allocate ARGUMENTS...: its JSON in $work/plan.json
allocate() {
  "$bin/adze-allocate" "$work/choose.yaml" "$model" --stats "$work/stats" --work "$work/options" \
    -o "$work/plan.yaml" --overwrite --json -q "$@" > "$work/plan.json"
}

# All in Q6_K, of 6.5625 bits a weight: how many weights choose, and what the rest takes.
recipe 1000000000000
allocate --evaluations 0 2> /dev/null
most=$(value most "$work/plan.json") least=$(value least "$work/plan.json")
read -r weights rest <<< "$(awk -v most="$most" -v least="$least" 'BEGIN {
  weights = (most - least) * 8 / (6.5625 - 2.625); printf "%.0f %.0f\n", weights, most - weights * 6.5625 / 8 }')"

folders=()
: > "$work/rows"
for bits in $budgets; do
  recipe "$(awk -v w="$weights" -v r="$rest" -v b="$bits" 'BEGIN { printf "%.0f", r + w * b / 8 }')"
  allocate --stitched "$work/$bits.store"
  folders+=("$work/$bits.store")
  awk -v bits="$bits" -v cost="$(value cost "$work/plan.json")" -v sum="$(value loss "$work/plan.json")" \
    -v slope="$(value slope "$work/plan.json")" -v intercept="$(value intercept "$work/plan.json")" \
    'BEGIN { print bits, cost, sum, slope == "" ? 0 : exp(intercept + slope * log(sum)) }' >> "$work/rows"
  echo "front: $bits bits ($SECONDS s)" >&2
done
"$bin/adze-eval" "${folders[@]}" --reference "$model" --text "$text" --json -q > "$work/judged.json"
awk -v keys="kl_mean kl_mean_se" -f bench/quality/figures.awk "$work/judged.json" > "$work/figures"
echo "| bits | bytes | sum | fitted | measured | ± | sum / measured | fitted / measured |"
echo "|---|---|---|---|---|---|---|---|"
paste -d' ' "$work/rows" <(tr '\t' ' ' < "$work/figures") |
  awk '{ printf "| %s | %d | %.6f | %.6f | %.6f | %.6f | %.2f | %.2f |\n", $1, $2, $3, $4, $5, $6, $3 / $5, $4 / $5 }'
