# Figures of models out of JSON in which each is an object of its own without objects inside (adze eval --json, and
# llama.mjs divergence): one line each with tabs between.   awk -v keys="bytes kl_mean" -f figures.awk FILE
BEGIN { RS = "}"; n = split(keys, key, " ") }
/"kl_mean":/ {
  line = ""
  for (k = 1; k <= n; k++) {
    value = $0
    if (!sub(".*\"" key[k] "\": *", "", value)) { print "no " key[k] " in: " $0 > "/dev/stderr"; exit 70 }
    sub(/[],\n ].*/, "", value)
    line = line (k > 1 ? "\t" : "") value
  }
  print line
}
