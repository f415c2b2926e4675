# Points of two kinds, "KIND SIZE SECONDS" a line, as a Markdown table with the exponent of each kind, and drawn side by side:
#   awk -v svg=FILE -v names=hidden,tokens -v labels="hidden size,calibration tokens" -f bench/points.awk POINTS
# least squares of log t over log x, on the last three points: small runs measure the start of the program
function slope(kind,   i, first, n, sx, sy, sxx, sxy, x, y) {
  first = count[kind] > 3 ? count[kind] - 3 : 0
  for (i = first; i < count[kind]; ++i) {
    x = log(xs[kind, i]); y = log(ts[kind, i]); ++n; sx += x; sy += y; sxx += x * x; sxy += x * y
  }
  return (n * sxy - sx * sy) / (n * sxx - sx * sx)
}
function px(kind, x) { return left[kind] + 40 + 260 * log(x / xs[kind, 0]) / log(xs[kind, count[kind] - 1] / xs[kind, 0]) }
function py(t) { return 250 - 210 * log(t / low) / log(high / low) }
{ xs[$1, count[$1] + 0] = $2; ts[$1, count[$1] + 0] = $3; ++count[$1]
  if (low == "" || $3 < low) low = $3
  if ($3 > high) high = $3 }
END {
  print "| against | size | seconds | exponent (last three) |\n|---|---|---|---|"
  split(names, kinds, ","); split(labels, label, ","); left[kinds[1]] = 20; left[kinds[2]] = 380
  print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 310\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#808080\" stroke=\"none\">" > svg
  for (k = 1; k <= 2; ++k) {
    kind = kinds[k]; points = ""
    for (i = 0; i < count[kind]; ++i) {
      printf "| %s | %d | %.2f | %s |\n", kind, xs[kind, i], ts[kind, i], i == count[kind] - 1 ? sprintf("%.2f", slope(kind)) : ""
      x = px(kind, xs[kind, i]); y = py(ts[kind, i]); points = points sprintf("%.1f,%.1f ", x, y)
      printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#3b82c4\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.2g s</text><text x=\"%.1f\" y=\"270\" text-anchor=\"middle\">%d</text>\n", x, y, x, y - 10, ts[kind, i], x, xs[kind, i] > svg
    }
    printf "<polyline points=\"%s\" fill=\"none\" stroke=\"#3b82c4\" stroke-width=\"2\"/>\n", points > svg
    printf "<line x1=\"%d\" y1=\"250\" x2=\"%d\" y2=\"250\" stroke=\"#808080\"/><text x=\"%d\" y=\"295\" text-anchor=\"middle\">%s: exponent %.2f</text>\n", left[kind] + 20, left[kind] + 320, left[kind] + 170, label[k], slope(kind) > svg
  }
  print "</svg>" > svg
}
