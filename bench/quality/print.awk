# Joins the list of files with what was judged, in the same order, and prints lines of JSON or a table.
#   awk -v table=NAME -v json=1 -f print.awk LIST FIGURES
# With -v any_bytes=1 rows are compared although their files differ in size.
# LIST: scheme, grid, path, with tabs between. FIGURES: bytes, bits_per_weight, perplexity, kl_mean, kl_se, same_top.
BEGIN { FS = "\t" }
FNR == NR { scheme[FNR] = $1; grid[FNR] = $2; rows = FNR; next }
{
  bytes[FNR] = $1; bits[FNR] = $2; perplexity[FNR] = $3; kl[FNR] = $4; se[FNR] = $5; top[FNR] = $6
  theirs = scheme[FNR] ~ / llama\.cpp$/
  if (theirs || !(grid[FNR] in yardstick)) yardstick[grid[FNR]] = FNR
  if (theirs) any_theirs = 1
}
# How far row i moves the predictions against its yardstick; nothing for the yardstick itself and for other sizes.
function ratio(i, y) {
  y = yardstick[grid[i]]
  return i == y || (bytes[i] != bytes[y] && !any_bytes) || kl[y] == 0 ? "" : sprintf("%.3f", kl[i] / kl[y])
}
END {
  if (FNR != rows) { print "quality: " rows " files, " FNR " judged" > "/dev/stderr"; exit 70 }
  if (!json) {
    print "| scheme | bytes | bits per weight | perplexity | mean KL | ± | same top % | KL / " \
      (any_theirs ? "llama.cpp's" : "first row's") " |"
    print "|---|---|---|---|---|---|---|---|"
  }
  for (i = 1; i <= rows; i++)
    if (json)
      printf "{\"table\": \"%s\", \"scheme\": \"%s\", \"bytes\": %s, \"bits_per_weight\": %s, \"perplexity\": %s, " \
        "\"kl_mean\": %s, \"kl_se\": %s, \"same_top\": %s}\n", table, scheme[i], bytes[i], bits[i], perplexity[i],
        kl[i], se[i], top[i]
    else
      printf "| %s | %d | %.3f | %.3f | %.6f | %.6f | %.2f | %s |\n", scheme[i], bytes[i], bits[i], perplexity[i],
        kl[i], se[i], 100 * top[i], ratio(i)
}
