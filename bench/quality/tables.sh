# The tables of bench/quality.sh. A table is a function of its name that prints rows "NAME|KIND|SCHEME", then where they
# differ from none and all block linears "|TRANSFORMS" and "|MODULES", globs with a blank between them, the other linears
# staying in f16; KIND is a GGUF grid, or what rows that are to be compared with each other have in common. A SCHEME of
# several, with semicolons between, is what `adze allocate` may choose among in the bytes of the first row of the kind.
# The first row of a kind is the yardstick of the others where there is no file of llama.cpp.
# shellcheck shell=bash disable=SC2034 # used by quality.sh

# name|what it shows
readonly TABLES=(
  "gguf|the default solver on every GGUF grid"
  "ablation|what each part of the solver is worth, on Q3_K and Q4_K"
  "joint|pruning, and pruning with quantization, as stored with a mask"
  "lowrank|low rank and dictionaries, alone and under quantization"
  "allocation|a scheme for every matrix, in the bytes of one scheme for all"
  "mixed|llama.cpp's own mixes (--peers), their types solved by gptq, and allocation at their size"
  "transform|rotations and scalings before rounding to 3 and 2 bits"
)

# judged_as TABLE: gguf, the exported file; or store, the compressed store, whose bytes count masks and integers as they
# are.
judged_as() { if [[ "$1" == gguf || "$1" == ablation || "$1" == mixed ]]; then echo gguf; else echo store; fi; }

# Grids that recipes should choose among, and those that are there for other reasons (age, hardware, ternary models).
readonly MAIN_GRIDS=(q2_k q3_k q4_k q5_k q6_k q4_0 iq4_xs)
readonly OTHER_GRIDS=(q8_0 q4_1 q5_0 q5_1 iq4_nl mxfp4 tq2_0)

table_gguf() {
  local grid
  for grid in "${MAIN_GRIDS[@]}" "${OTHER_GRIDS[@]}"; do echo "$grid|$grid|grid: gguf/$grid, solver: gptq"; done
  echo "nvfp4|nvfp4|grid: nvfp4, solver: gptq"
}

table_ablation() {
  local grid
  for grid in q3_k q4_k q5_k q6_k; do
    echo "$grid-rtn|$grid|grid: gguf/$grid, solver: rtn"
    echo "$grid-gptq|$grid|grid: gguf/$grid, solver: gptq, polish: 0, shift: 0"
    echo "$grid-gptq-polish|$grid|grid: gguf/$grid, solver: gptq, polish: 3, shift: 0"
    echo "$grid-gptq-shift|$grid|grid: gguf/$grid, solver: gptq, polish: 0, shift: 1"
    echo "$grid-default|$grid|grid: gguf/$grid, solver: gptq"
  done
}

# Pruning alone, values in f16; then with int4 in groups of 128, beside dense grids of as many bytes.
table_joint() {
  local pattern name solver rotated
  local int4="grid: int4, group: 128"
  for pattern in 50% 2:4; do
    name=${pattern/:/of}
    for solver in magnitude wanda nowag-p sparsegpt obq; do
      echo "$name-$solver|$name|sparsity: $pattern, solver: $solver"
    done
    echo "$name-sparsegpt-scores|$name|sparsity: $pattern, solver: sparsegpt, enumerate: false"
    echo "$name-wanda-restored|$name|sparsity: $pattern, solver: wanda, restore: true"
    echo "$name-sparsegpt-polished|$name|sparsity: $pattern, solver: sparsegpt, polish: 3, shift: 1"
    echo "$name-obr|$name|sparsity: $pattern, solver: obr"
    echo "w4-$name-sparsegpt-then-gptq|w4-$name|$int4, sparsity: $pattern, solver: sparsegpt, joint: false"
    echo "w4-$name-sparsegpt|w4-$name|$int4, sparsity: $pattern, solver: sparsegpt"
    echo "w4-$name-obr-released-rtn|w4-$name|$int4, sparsity: $pattern, solver: obr, form: released-rtn"
    echo "w4-$name-obr-released-gptq|w4-$name|$int4, sparsity: $pattern, solver: obr, form: released-gptq"
    echo "w4-$name-obr-plain|w4-$name|$int4, sparsity: $pattern, solver: obr, polish: 0, shift: 0"
    echo "w4-$name-obr-shared|w4-$name|$int4, sparsity: $pattern, solver: obr, form: shared"
    echo "w4-$name-obr|w4-$name|$int4, sparsity: $pattern, solver: obr"
    echo "w4-$name-sparsegpt-polished|w4-$name|$int4, sparsity: $pattern, solver: sparsegpt, polish: 3, shift: 1"
    for solver in "sparsegpt, joint: false" "obr, form: released-rtn" "obr, form: released-gptq" "obr"; do
      rotated=${solver//, form:/}
      rotated=${rotated/, joint: false/-then-gptq}
      echo "w4-$name-${rotated/ /-}-rotated|w4-$name-rotated|$int4, sparsity: $pattern, solver: $solver|{ kind: rotate }"
    done
  done
  for solver in inputs loss; do
    echo "w4-gqsa-$solver|w4-gqsa|grid: int4, group: 16, sparsity: 50%, block: 16, solver: gqsa, saliency: $solver"
  done
  echo "w3-dense|w3|grid: int3, group: 128, solver: gptq"
  echo "w2-dense|w2|grid: int2, group: 64, solver: gptq"
}

# Factors in f16, so that `keep` is a part of the bytes: methods as published (without shifted targets), then ours. Then
# under quantization, bytes equal within a kind or as near as ranks allow.
table_lowrank() {
  local keep kind heads whole="solver: svd, keep: 100%"  # stored in f16 as it is
  local keys_values="layers.*.self_attn.k_proj layers.*.self_attn.v_proj"
  local -A ffn=([80]=73.4 [70]=60 [60]=46.7)     # the FFN has three quarters of the demo's block linears
  for keep in 80 70 60; do
    kind=keep-$keep
    echo "$keep-svd|$kind|solver: svd, keep: $keep%, metric: none, shift: 0"
    echo "$keep-asvd|$kind|solver: svd, keep: $keep%, metric: diagonal, alpha: 0.5, shift: 0"
    echo "$keep-svd-llm|$kind|solver: svd, keep: $keep%, shift: 0"
    echo "$keep-pivoted|$kind|solver: svd, keep: $keep%, form: pivoted, shift: 0"
    echo "$keep-rocket|$kind|solver: rocket, keep: $keep%, threshold: row, shift: 0"
    echo "$keep-compot|$kind|solver: compot, keep: $keep%, threshold: row, shift: 0"
    echo "$keep-svd-shifted|$kind|solver: svd, keep: $keep%"
    echo "$keep-pivoted-shifted|$kind|solver: svd, keep: $keep%, form: pivoted"
    echo "$keep-rocket-shifted|$kind|solver: rocket, keep: $keep%"
    echo "$keep-compot-shifted|$kind|solver: compot, keep: $keep%"
    echo "$keep-mpo-shifted|$kind|solver: mpo, keep: $keep%"
    echo "$keep-slice|$kind|$whole|{ kind: slice, keep: $keep%, align: 8 }"
    heads="{ kind: narrow-heads, keep: $keep%, align: 2 }"
    echo "$keep-modegpt|$kind|$whole|$heads, { kind: prune-ffn, keep: $keep%, align: 8, select: leverage }"
    echo "$keep-modegpt-by-loss|$kind|$whole|$heads, { kind: prune-ffn, keep: $keep%, align: 8 }"
    echo "$keep-prune-ffn|$kind|$whole|{ kind: prune-ffn, keep: ${ffn[$keep]}%, align: 8 }"
  done
  for keep in 50 25; do
    kind=cache-$keep
    echo "$kind-svd|$kind|solver: svd, rank: $keep%, form: pivoted, metric: none, shift: 0||$keys_values"
    echo "$kind-svd-llm|$kind|solver: svd, rank: $keep%, form: pivoted, shift: 0||$keys_values"
    echo "$kind-readers|$kind|solver: svd, rank: $keep%, form: pivoted, readers: true, shift: 0||$keys_values"
    echo "$kind-readers-shifted|$kind|solver: svd, rank: $keep%, form: pivoted, readers: true||$keys_values"
  done
  echo "w4|4-bits|grid: int4, group: 128, solver: gptq"
  echo "w3-lowrank-one-shot|4-bits|grid: int3, group: 128, solver: lowrank-residual, keep: 6.25%, align: 1, iterations: 0"
  echo "w3-lowrank|4-bits|grid: int3, group: 128, solver: lowrank-residual, keep: 6.25%, align: 1"
  echo "w3|3-bits|grid: int3, group: 128, solver: gptq"
  echo "w2-lowrank|3-bits|grid: int2, group: 128, solver: lowrank-residual, keep: 6.25%, align: 1"
  echo "w4-compot|3-bits|solver: compot, keep: 60%, grid: int4, group: 32, align: 32"
  echo "w4-svd|3-bits|solver: svd, keep: 72%, form: pivoted, grid: int4, group: 32, align: 32"
  echo "w6-2of4|2of4|grid: int6, group: 128, sparsity: 2:4, solver: sparsegpt, polish: 3, shift: 1"
  echo "w4-2of4-slim|2of4|grid: int4, group: 128, sparsity: 2:4, solver: lowrank-residual, keep: 6.25%, align: 1, iterations: 0, metric: diagonal"
  echo "w4-2of4-lowrank|2of4|grid: int4, group: 128, sparsity: 2:4, solver: lowrank-residual, keep: 6.25%, align: 1, polish: 3"
}

# each PATTERN VALUE...: the pattern with every value in place of @, with semicolons between.
each() {
  local pattern=$1 value all=""
  shift
  for value in "$@"; do all+="${all:+;}${pattern//@/$value}"; done
  echo "$all"
}

table_allocation() {
  local grid bits keep form
  local grids=(q2_k q3_k q4_k q5_k q6_k q8_0) parts=(95 90 85 80 75 70 65 60 50 40)
  for grid in q3_k q4_k q5_k q6_k; do
    echo "$grid|$grid-bytes|grid: gguf/$grid, solver: gptq"
    echo "$grid-allocated|$grid-bytes|$(each "grid: gguf/@, solver: gptq" "${grids[@]}")"
  done
  for bits in 3 4; do
    echo "w$bits|w$bits-bytes|grid: int$bits, group: 128, solver: gptq"
    echo "w$bits-allocated|w$bits-bytes|$(each "grid: int@, group: 128, solver: gptq" 2 3 4 5 6 8)"
  done
  for bits in 2 3; do
    echo "int$bits-g64|int$bits-rows|grid: int$bits, group: 64, symmetric: false"
    echo "int$bits-rows|int$bits-rows|grid: int$bits, group: 64, symmetric: false, solver: mixed-rows"
  done
  for bits in 2.8 3.8; do
    echo "rows-$bits|rows-$bits|grid: int4, group: 64, symmetric: false, solver: mixed-rows, bits: $bits"
  done
  for keep in 80 70; do
    for form in "svd, form: pivoted" compot; do
      echo "$keep-${form/, form: /-}|$keep-$form|solver: $form, keep: $keep%"
      echo "$keep-${form/, form: /-}-allocated|$keep-$form|$(each "solver: $form, keep: @%" "${parts[@]}")"
    done
  done
  echo "rtn-q3_k|rtn-q3_k|grid: gguf/q3_k, solver: rtn"
  echo "rtn-q3_k-allocated|rtn-q3_k|$(each "grid: gguf/@, solver: rtn" "${grids[@]}")"
}

# Files NAME-MIX-mix.gguf of --peers: every matrix in the type that it has there; and block linears in any K-quant, the
# embedding in the type that it has there, at most as many bytes as that file.
table_mixed() {
  local mix
  for mix in q4_k_m q3_k_m q2_k; do
    echo "$mix-gptq|$mix|types of $mix"
    echo "$mix-allocated|$mix|size of $mix"
  done
}

# With a rotation the head is a table of its own, in F16 like the embedding: bytes of the block linears are equal.
table_transform() {
  local bits grid solver name options
  for bits in 3 2; do
    grid="grid: int$bits, group: $((bits == 3 ? 128 : 64))"
    for solver in rtn gptq default; do
      case $solver in
        rtn) options="solver: rtn" ;;
        gptq) options="solver: gptq, polish: 0, shift: 0" ;;
        default) options="solver: gptq" ;;
      esac
      name=w$bits-$solver
      echo "$name|$name|$grid, $options"
      echo "$name-rotated|$name|$grid, $options|{ kind: rotate }"
      echo "$name-awq|$name|$grid, $options|{ kind: awq }"
      echo "$name-smoothquant|$name|$grid, $options|{ kind: smoothquant }"
      echo "$name-rotated-awq|$name|$grid, $options|{ kind: rotate }, { kind: awq }"
    done
  done
}

# in_runtime GRID: is it loaded with --runtime? The main grids, and Q8_0, which shows the floor that rounding
# activations to 8 bits sets.
in_runtime() { [[ " ${MAIN_GRIDS[*]} q8_0 " == *" $1 "* ]]; }
