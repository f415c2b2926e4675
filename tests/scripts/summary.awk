# Counts the tests of a JUnit file as ctest 3.25 writes it, and says which failed and which were skipped and why.
#
#   awk -v strict=1 -f summary.awk junit.xml
#
# Last line: "N passed, N failed, N skipped". Exit code 1 when a test failed, when none ran, or, with strict=1, when one
# was skipped; a reason that starts with "extra:" is allowed even then (tests over files that only some machines have).

function unescaped(text) {
  gsub(/&lt;/, "<", text); gsub(/&gt;/, ">", text); gsub(/&quot;/, "\"", text); gsub(/&apos;/, "'", text)
  gsub(/&amp;/, "\\&", text)
  return text
}

# The value of attribute `key` in a tag, "" when absent.
function attribute(tag, key) {
  if (!match(tag, " " key "=\"[^\"]*\"")) return ""
  return unescaped(substr(tag, RSTART + length(key) + 3, RLENGTH - length(key) - 4))
}

function trimmed(text) { gsub(/^[ \t\r]+|[ \t\r]+$/, "", text); return text }

# One more line of a test's output. GoogleTest prints "file:line: Skipped", the reason, "[  SKIPPED ] name".
function read_output(line) {
  line = trimmed(unescaped(line))
  if (line ~ /^\[  FAILED  \]/) failed_inside = 1
  if (line ~ /^\[  SKIPPED \]/) in_reason = 0
  if (in_reason && line != "") reason = reason (reason == "" ? "" : " ") line
  if (line ~ /: Skipped$/) in_reason = 1
  if (line != "") last_line = line
}

function finish() {
  if (status == "run") { passed++; return }
  if (status == "disabled") { skip("disabled"); return }
  # ctest calls a program that it cannot find "notrun" too, and a skip pattern outweighs a failure for it.
  if (status != "notrun" || failed_inside || note ~ /^Unable to/) { failures[++failed] = name; return }
  skip(reason != "" ? reason : note ~ /^SKIP_RETURN_CODE/ && last_line != "" ? last_line : "no reason given")
}

function skip(why) {
  skips[++skipped] = name ": " why
  if (why !~ /^extra:/) unexcused++
}

/^[ \t]*<testcase / {
  name = attribute($0, "name"); status = attribute($0, "status")
  reason = note = last_line = ""; in_reason = failed_inside = in_output = 0
}
/^[ \t]*<(skipped|failure) / { note = attribute($0, "message") }
{
  text = $0
  if (sub(/^.*<system-out>/, "", text)) in_output = 1
  closes = sub(/<\/system-out>.*$/, "", text)
  if (in_output) read_output(text)
  if (closes) in_output = 0
}
/^[ \t]*<\/testcase>/ { finish() }

END {
  for (i = 1; i <= skipped; i++) print "skipped: " skips[i]
  for (i = 1; i <= failed; i++) print "FAILED: " failures[i]
  if (strict && unexcused)
    printf "FAILED: %d skipped without an \"extra:\" reason, which CI does not allow\n", unexcused
  if (passed + failed + skipped == 0) print "FAILED: no tests ran"
  printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
  exit failed > 0 || passed == 0 || (strict && unexcused > 0)
}
