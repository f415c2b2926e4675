#!/usr/bin/env bash
# Quality of compressed files at equal bytes, judged by one program in one run: bench/quality.sh TABLE [OPTIONS]
# Every scheme of the table compresses all linears of all blocks (embedding and head stay in F16), and one `adze eval`
# judges all files against the original, llama.cpp's files of the same grids among them where there are any.
set -euo pipefail
shopt -s inherit_errexit nullglob
invoked_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source bench/programs.sh
source bench/quality/tables.sh
source bench/quality/llama_cpp.sh

TOKENS=512 CONTEXT=512

usage() {
  cat <<END
bench/quality.sh TABLE [OPTIONS]

$(printf '%s\n' "${TABLES[@]}" | sed 's/^\([^|]*\)|/  \1\t/' | expand -t 14)
  calibration calibration sets against each other: bench/quality.sh calibration --help

  --model DIR          the original; default the bundled model
  --calibration FILE   a .txt or a text set, its first windows of $TOKENS tokens; default calibration_data/mixed.yaml
  --windows N          how many; default 64
  --tokens N           length of all windows, of calibration and of judging; default $TOKENS
  --experts MODE       what experts of a mixture are calibrated with, routed or all; default routed
  --eval FILE          what to judge on, windows of $CONTEXT; default calibration_data/heldout.yaml
  --peers DIR          llama.cpp's files, NAME-GRID-pure.gguf. Without, they are made where llama-quantize and
                       llama-imatrix are on the PATH
  --only GLOB          schemes whose name matches, for instance 'q4_*'
  --keep DIR           keep the compressed files there; those of an earlier run by the same program are not made again
  --runtime            load the files in llama.cpp too and judge what it predicts; the evaluation text must be a .txt
  --runtime-windows N  windows for that, spread over the text; default 16
  --json               lines of JSON instead of tables
  --outliers           judge a copy of the model that computes the same but has outlying channels, which small models
                       lack: 1 % of the gains of norms times 30, the columns they meet divided by 30
  --bin DIR            where adze is; otherwise the preset release is built first
END
}

refuse() {
  echo "quality: $*" >&2
  exit 64
}
note() { echo "quality: $* ($SECONDS s)" >&2; }

# absolute PATH: as the caller meant it, from where the script was called. An option's file must exist.
absolute() {
  (cd "$invoked_from" && realpath -e -- "$1") || refuse "$1 does not exist"
}

table=${1:-}
if [[ "$table" == --help || "$table" == -h ]]; then usage; exit 0; fi
if [[ "$table" == calibration ]]; then  # a study, not a table of files
  cd "$invoked_from"
  exec bash "$OLDPWD/bench/quality/calibration.sh" "${@:2}"
fi
if ! printf '%s\n' "${TABLES[@]}" | cut -d'|' -f1 | grep -qxF -- "$table"; then
  refuse "there is no table '$table'; there are: $(printf '%s\n' "${TABLES[@]}" | cut -d'|' -f1 | xargs)"
fi
shift

model=$PWD/tests/models/demo-llama
calibration=$PWD/calibration_data/mixed.yaml
text=$PWD/calibration_data/heldout.yaml
windows=64 runtime_windows=16 experts=routed
peers="" keep="" only="*" runtime="" json="" bin="" outliers=""
while [[ $# -gt 0 ]]; do
  if [[ "$1" != --runtime && "$1" != --json && "$1" != --outliers && $# -lt 2 ]]; then refuse "$1 needs a value, or is unknown: --help"; fi
  case "$1" in
    --model) model=$(absolute "$2") ;;
    --calibration) calibration=$(absolute "$2") ;;
    --windows) windows=$2 ;;
    --tokens) TOKENS=$2 CONTEXT=$2 ;;
    --experts) experts=$2 ;;
    --eval) text=$(absolute "$2") ;;
    --peers) peers=$(absolute "$2") ;;
    --only) only=$2 ;;
    --keep) keep=$(absolute "$2") ;;
    --runtime) runtime=1; shift; continue ;;
    --runtime-windows) runtime_windows=$2 ;;
    --json) json=1; shift; continue ;;
    --outliers) outliers=1; shift; continue ;;
    --bin) bin=$(absolute "$2") ;;
    *) refuse "unknown option $1: --help" ;;
  esac
  shift 2
done
if [[ -n "$runtime" && "$text" != *.txt ]]; then refuse "--runtime needs --eval FILE.txt: llama.cpp reads one file"; fi
node=${ADZE_NODE:-node}

if [[ -z "$bin" ]]; then
  programs=(adze-compress adze-eval adze-calibrate adze-allocate adze-inspect)
  if [[ -n "$outliers" ]]; then programs=(--bench "${programs[@]}" adze-outliers); fi
  build_programs "${programs[@]}"
fi
judged=$(judged_as "$table")
if [[ -n "$runtime" && "$judged" != gguf ]]; then refuse "--runtime loads GGUF files; the table $table has none"; fi
made_by="adze-compress $(cat "$bin"/adze-compress "$bin"/adze-allocate | sha256sum | cut -c1-16) of $model${outliers:+ with outliers}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [[ -n "$outliers" ]]; then
  "$bin/adze-outliers" "$model" "$work/outliers"
  model=$work/outliers
fi

# write_recipe NAME SCHEMES RULES [TRANSFORMS]
write_recipe() {
  cat > "$work/$1.yaml" <<END
# $made_by
adze: 1
calibration: { set: "$calibration", windows: $windows, tokens: $TOKENS, seed: 0, experts: $experts }
$(if [[ -n "${4:-}" ]]; then echo "transform: [ $4 ]"; fi)
$2
rules:
$3
$(if [[ "$judged" == gguf ]]; then echo 'export: [ { format: gguf, file: model.gguf } ]'; fi)
END
}

# compress NAME: runs that recipe; what is judged is $work/NAME.gguf, or the output folder, $work/NAME.store.
compress() {
  "$bin/adze-compress" "$work/$1.yaml" "$model" -o "$work/run" --quiet > "$work/log"
  if [[ "$judged" == gguf ]]; then mv "$work/run/model.gguf" "$work/$1.gguf"; else mv "$work/run" "$work/$1.store"; fi
  rm -rf "$work/run"
}

# scheme_file NAME SCHEME TRANSFORMS MODULES: compresses these linears with that scheme.
scheme_file() {
  local module rules='  - { modules: "lm_head", store: f16 }
  - { modules: "embed_tokens", store: f16 }'
  local -a modules
  read -ra modules <<< "${4:-layers.**}"
  for module in "${modules[@]}"; do rules+="
  - { modules: \"$module\", scheme: s }"; done
  if [[ -n "$4" ]]; then rules+='
  - { modules: "layers.**", store: f16 }'; fi
  write_recipe "$1" "schemes: { s: { $2 } }" "$rules" "$3"
  if take_kept "$1"; then note "$1: kept from an earlier run"; return 0; fi
  note "$1: { $2 }${3:+ after $3}"
  compress "$1"
  keep_file "$1"
}

# statistics: the folder with those of the original model, measured when they are first asked for.
statistics() {
  if [[ ! -d "$work/statistics" ]]; then
    "$bin/adze-calibrate" "$model" --set "$calibration" --windows "$windows" --tokens "$TOKENS" --seed 0 \
      -o "$work/statistics" --quiet > "$work/log"
  fi
  echo "$work/statistics"
}

# stored_bytes NAME: of the tensors of a compressed store.
stored_bytes() {
  tr -d '\n ' < "$work/$1.store/manifest.json" | sed 's/.*"stored":{"bytes":\([0-9]*\).*/\1/'
}

# allocated_file NAME SCHEMES FIRST: compresses the block linears, each with one of these schemes, in the bytes that the
# row FIRST has.
allocated_file() {
  local -a schemes
  local scheme chosen_from="" listed="schemes:" n=0
  IFS=';' read -ra schemes <<< "$2"
  for scheme in "${schemes[@]}"; do
    listed+="
  s$n: { $scheme }"
    chosen_from+="${chosen_from:+, }s$n"
    n=$((n + 1))
  done
  write_recipe "$1" "$listed
budget: { size: $(stored_bytes "$3") B }" "  - { modules: \"lm_head\", store: f16 }
  - { modules: \"embed_tokens\", store: f16 }
  - { modules: \"layers.**\", choose: [$chosen_from] }"
  if take_kept "$1"; then note "$1: kept from an earlier run"; return 0; fi
  note "$1: one of ${#schemes[@]} schemes for each matrix, in the bytes of $3"
  allocate_and_compress "$1"
  keep_file "$1"
}

# types_of FILE: "MODULE TYPE" of every linear and of the embedding.
types_of() {
  "$bin/adze-inspect" "$1" --tensors | awk '
    BEGIN {
      split("attn_q self_attn.q_proj attn_k self_attn.k_proj attn_v self_attn.v_proj attn_output self_attn.o_proj " \
            "ffn_gate mlp.gate_proj ffn_up mlp.up_proj ffn_down mlp.down_proj", names, " ")
      for (i = 1; i <= 14; i += 2) module[names[i]] = names[i + 1]
    }
    $1 == "token_embd.weight" { embedding = tolower($2) }
    $1 == "output.weight" { head = tolower($2) }
    $1 ~ /^blk\./ { split($1, part, "."); if (part[3] in module) print "layers." part[2] "." module[part[3]], tolower($2) }
    END { print "lm_head", head == "" ? embedding : head; print "embed_tokens", embedding }'
}

# mixed_file NAME MIX types|size: compresses with the types of llama.cpp's file, or with what fits into its bytes.
mixed_file() {
  local peer type module rules="" listed="schemes:"
  peer=$(peer_file "$2")
  for type in q2_k q3_k q4_k q5_k q6_k; do listed+="
  $type: { grid: gguf/$type, solver: gptq }"; done
  while read -r module type; do
    if [[ "$3" == types || "$module" != layers.* ]]; then rules+="  - { modules: \"$module\", scheme: $type }
"; fi
  done < <(types_of "$peer")
  if [[ "$3" == types ]]; then
    write_recipe "$1" "$listed" "$rules"
  else
    write_recipe "$1" "$listed
budget: { size: $(stat -c %s "$peer") B }" "$rules  - { modules: \"layers.**\", choose: [q2_k, q3_k, q4_k, q5_k, q6_k] }"
  fi
  if take_kept "$1"; then note "$1: kept from an earlier run"; return 0; fi
  note "$1: $3 of $(basename "$peer")"
  if [[ "$3" == types ]]; then
    compress "$1"
  else
    allocate_and_compress "$1"
  fi
  keep_file "$1"
}

# allocate_and_compress NAME: the recipe leaves a choice; solved options serve later rows.
allocate_and_compress() {
  cp "$work/$1.yaml" "$work/choose.yaml"
  "$bin/adze-allocate" "$work/choose.yaml" "$model" --stats "$(statistics)" --windows $((windows / 8 + 1)) \
    --work "$work/options" -o "$work/$1.yaml" --overwrite --quiet > "$work/log"
  compress "$1"
  cp "$work/choose.yaml" "$work/$1.yaml"
}

# keep_file NAME: for a later run with the same --keep.
keep_file() {
  if [[ -z "$keep" ]]; then return 0; fi
  rm -rf "${keep:?}/$1.$judged"
  cp -r "$work/$1.$judged" "$work/$1.yaml" "$keep"
}

# take_kept NAME: takes the file of --keep when it was made by this recipe, which names program and model.
take_kept() {
  [[ -n "$keep" && -e "$keep/$1.$judged" ]] && cmp -s "$work/$1.yaml" "$keep/$1.yaml" &&
    cp -r "$keep/$1.$judged" "$work"
}

# figures KEYS FILE: those figures of every model judged, a line each.
figures() { awk -v keys="$1" -f bench/quality/figures.awk "$2"; }

# value KEY FILE: the first of that name.
value() { grep -o "\"$1\": *[0-9.e+-]*" "$2" | sed -n '1s/.*: *//p'; }

# headline WHERE FILE: stands above a table.
headline() {
  if [[ -n "$json" ]]; then return 0; fi
  printf '\nThe original %s: perplexity %.3f\n\n' "$1" "$(value perplexity_base "$2")"
}

# show TABLE LIST FIGURES
show() { awk -v table="$1" -v json="$json" -v any_bytes="$([[ "$1" == transform || "$1" == lowrank || "$1" == allocation || "$1" == mixed ]] && echo 1)" -f bench/quality/print.awk "$2" "$3"; }

mapfile -t rows < <("table_$table" | while IFS='|' read -r name rest; do
  # shellcheck disable=SC2053 # the right side is a pattern
  if [[ "$name" == $only ]]; then echo "$name|$rest"; fi
done)
if [[ ${#rows[@]} -eq 0 ]]; then refuse "no scheme of $table matches '$only'"; fi

mapfile -t grids < <(printf '%s\n' "${rows[@]}" | cut -d'|' -f2 | awk '!seen[$0]++')
if [[ "$table" == mixed ]]; then
  for grid in "${grids[@]}"; do
    if [[ -z "$(peer_file "$grid")" ]]; then refuse "the table mixed needs --peers DIR with a file *-$grid-mix.gguf"; fi
  done
elif [[ "$judged" == gguf ]]; then
  make_peer_files "${grids[@]}"
fi
last="" kind="" first=""
for row in "${rows[@]}"; do
  IFS='|' read -r name grid scheme transforms modules <<<"$row"
  peer=$(peer_file "$grid")
  if [[ "$grid" != "$last" && -n "$peer" ]]; then printf '%s llama.cpp\t%s\t%s\n' "$grid" "$grid" "$peer"; fi
  last=$grid
  if [[ "$grid" != "$kind" ]]; then kind=$grid first=$name; fi
  if [[ "$table" == mixed ]]; then
    mixed_file "$name" "$grid" "${scheme%% *}"
  elif [[ "$scheme" == *";"* ]]; then
    allocated_file "$name" "$scheme" "$first"
  else
    scheme_file "$name" "$scheme" "$transforms" "$modules"
  fi
  printf '%s\t%s\t%s\n' "$name" "$grid" "$work/$name.$judged"
done > "$work/list"

mapfile -t files < <(cut -f3 "$work/list")
note "judging ${#files[@]} files"
"$bin/adze-eval" "${files[@]}" --reference "$model" --text "$text" --protocol "lcpp-$CONTEXT" --json --quiet \
  > "$work/judged.json"
figures "bytes bits_per_weight perplexity kl_mean kl_mean_se same_top" "$work/judged.json" > "$work/figures"
headline "on $(basename "$text"), $(value tokens "$work/judged.json") tokens scored" "$work/judged.json"
show "$table" "$work/list" "$work/figures"
if [[ -n "$runtime" ]]; then judge_in_runtime; fi
note "done"
