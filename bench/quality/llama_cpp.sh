# llama.cpp's files of the same grids, and its judgement. Sourced by bench/quality.sh, whose variables it reads.
# shellcheck shell=bash disable=SC2154

# peer_file GRID: path of a file that --peers brings or llama-quantize made; nothing when there is none.
peer_file() {
  local file
  local kind=pure
  if [[ "$table" == mixed ]]; then kind=mix; fi
  for file in ${peers:+"$peers"/*-"$1"-$kind.gguf} "$work/theirs-$1-$kind.gguf"; do
    if [[ -f "$file" ]]; then echo "$file"; return; fi
  done
}

# make_peer_files GRID...: llama.cpp's own, where its programs are on the PATH: an importance matrix of the same
# windows of the same text, then every block linear in the one type, embedding and head in F16.
make_peer_files() {
  local grid
  if ! command -v llama-quantize >/dev/null || ! command -v llama-imatrix >/dev/null; then return 0; fi
  if [[ "$calibration" != *.txt ]]; then
    note "llama-imatrix reads one .txt: name one with --calibration to compare with llama.cpp's files"
    return 0
  fi
  original_gguf
  llama-imatrix -m "$work/original.gguf" -f "$calibration" -c "$TOKENS" --chunks "$windows" -o "$work/imatrix.dat" >&2
  for grid in "$@"; do
    if [[ -n "$(peer_file "$grid")" || "$grid" == mxfp4 ]]; then continue; fi # MXFP4: for experts only, over there
    note "llama-quantize $grid"
    llama-quantize --imatrix "$work/imatrix.dat" --pure --token-embedding-type f16 --output-tensor-type f16 \
      "$work/original.gguf" "$work/theirs-$grid-pure.gguf" "${grid^^}" >&2
  done
}

# original_gguf: the original in F32 at $work/original.gguf, made once.
original_gguf() {
  if [[ -f "$work/original.gguf" ]]; then return 0; fi
  write_recipe original "" '  - { modules: "**", store: f32 }'
  compress original
}

# runtime_missing: why files cannot be loaded in llama.cpp here; nothing when they can.
runtime_missing() {
  if ! "$node" -e 'process.exit(Number(parseInt(process.versions.node) < 20))' 2>/dev/null; then
    echo "no Node.js 20 or newer: set ADZE_NODE, or run tests/run.sh"
  elif [[ ! -d tests/node/node_modules/node-llama-cpp ]]; then
    echo "tests/node/node_modules is missing: run tests/run.sh, or npm ci --ignore-scripts in tests/node"
  fi
}

# judge_in_runtime: the rows of $work/list whose grid is wanted, loaded and judged by llama.cpp itself.
judge_in_runtime() {
  local reason scheme grid path
  local -a files=()
  reason=$(runtime_missing)
  if [[ -n "$reason" ]]; then note "--runtime is skipped: $reason"; return 0; fi
  original_gguf
  : > "$work/runtime-list"
  : > "$work/runtime-sizes"
  while IFS=$'\t' read -r scheme grid path bytes bits _; do
    if ! in_runtime "$grid"; then continue; fi
    printf '%s\t%s\t%s\n' "$scheme" "$grid" "$path" >> "$work/runtime-list"
    printf '%s\t%s\n' "$bytes" "$bits" >> "$work/runtime-sizes"
    files+=("$path")
  done < <(paste "$work/list" "$work/figures")
  note "llama.cpp: ${#files[@]} files, $runtime_windows windows"
  "$node" tests/node/llama.mjs divergence "$work/original.gguf" "$text" "$CONTEXT" "$runtime_windows" "${files[@]}" \
    > "$work/runtime.json" 2> "$work/runtime.log" || { cat "$work/runtime.log" >&2; return 70; }
  paste "$work/runtime-sizes" <(figures "perplexity kl_mean kl_mean_se same_top" "$work/runtime.json") \
    > "$work/runtime-figures"
  headline "in llama.cpp, $(value tokens "$work/runtime.json") tokens scored" "$work/runtime.json"
  show "$table-runtime" "$work/runtime-list" "$work/runtime-figures"
}
