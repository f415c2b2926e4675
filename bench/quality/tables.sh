# The tables of bench/quality.sh. A table is a function of its name that prints rows "NAME|GRID|OPTIONS OF THE SCHEME";
# the first row of a grid is the yardstick of the others where there is no file of llama.cpp.
# shellcheck shell=bash disable=SC2034 # used by quality.sh

# name|what it shows
readonly TABLES=(
  "gguf|the default solver on every GGUF grid"
  "ablation|what each part of the solver is worth, on Q3_K and Q4_K"
)

# Grids that recipes should choose among, and those that are there for other reasons (age, hardware, ternary models).
readonly MAIN_GRIDS=(q2_k q3_k q4_k q5_k q6_k q4_0 iq4_xs)
readonly OTHER_GRIDS=(q8_0 q4_1 q5_0 q5_1 iq4_nl mxfp4 tq2_0)

table_gguf() {
  local grid
  for grid in "${MAIN_GRIDS[@]}" "${OTHER_GRIDS[@]}"; do echo "$grid|$grid|solver: gptq"; done
}

table_ablation() {
  local grid
  for grid in q3_k q4_k; do
    echo "$grid-rtn|$grid|solver: rtn"
    echo "$grid-gptq|$grid|solver: gptq, polish: 0, shift: 0"
    echo "$grid-gptq-polish|$grid|solver: gptq, polish: 3, shift: 0"
    echo "$grid-gptq-shift|$grid|solver: gptq, polish: 0, shift: 1"
    echo "$grid-default|$grid|solver: gptq"
  done
}

# in_runtime GRID: is it loaded with --runtime? The main grids, and Q8_0, which shows the floor that rounding
# activations to 8 bits sets.
in_runtime() { [[ " ${MAIN_GRIDS[*]} q8_0 " == *" $1 "* ]]; }
