#include "report/page_assets.h"

namespace adze {
namespace {

constexpr std::string_view kStyle = R"css(
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--desk);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","DejaVu Sans",sans-serif;overflow-wrap:anywhere}
header,nav,main,footer{max-width:54rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.5rem}
h1{font-size:2rem;line-height:1.2;margin:0 0 .35rem;letter-spacing:-.015em}
.subtitle{margin:0;color:var(--muted);font-size:1.05rem}
nav ol{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:1.25rem 0 0;padding:.75rem 0 0;
border-top:1px solid var(--grid);font-size:.92rem}
a{color:var(--link);text-underline-offset:.15em}
section{background:var(--paper);border:1px solid var(--grid);border-radius:10px;margin:1.25rem 0;padding:1.35rem 1.5rem}
h2{font-size:1.3rem;line-height:1.3;margin:0 0 .75rem}
h3{font-size:1rem;line-height:1.4;margin:0 0 .15rem}
p{margin:0 0 .75rem;max-width:46rem}
.caption,.note{color:var(--muted);font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:0 0 1rem;padding:0}
.tiles div{border:1px solid var(--grid);border-radius:8px;padding:.7rem .85rem}
.tiles dt{color:var(--muted);font-size:.85rem}
.tiles dd{margin:0}
.tiles .value{font-size:1.3rem;font-weight:600;line-height:1.3;font-variant-numeric:tabular-nums}
.facts{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.3rem 1.25rem;margin:0 0 1rem}
.facts dt{color:var(--muted)}
.facts dd{margin:0;font-variant-numeric:tabular-nums;unicode-bidi:isolate}
figure{margin:1.5rem 0 0}
figure:first-of-type{margin-top:.5rem}
figure+.caption,figure+.scroll,.scroll+.caption{margin-top:1.5rem}
.scroll{overflow-x:auto;max-width:100%}
.scroll:focus-visible{outline:2px solid var(--link);outline-offset:2px}
svg{display:block;width:100%;height:auto;font-family:inherit}
table{border-collapse:collapse;font-size:.88rem;line-height:1.4;margin:0 0 .75rem}
th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--grid);white-space:nowrap;
unicode-bidi:isolate}
th{font-weight:600;color:var(--muted)}
.long{white-space:normal;min-width:18rem;overflow-wrap:normal}
.n{text-align:right;font-variant-numeric:tabular-nums}
details{margin:.4rem 0 0;font-size:.92rem}
summary{cursor:pointer;color:var(--link);width:fit-content}
details[open]>summary{margin-bottom:.5rem}
.warnings{list-style:none;margin:0 0 1rem;padding:0}
.warnings li{background:var(--warning);border-left:4px solid var(--warning-edge);border-radius:0 6px 6px 0;
padding:.5rem .85rem;margin:0 0 .5rem;unicode-bidi:isolate}
pre,.excerpt{font:13px/1.6 ui-monospace,"Cascadia Mono","DejaVu Sans Mono",Consolas,monospace;white-space:pre-wrap;
background:var(--desk);border:1px solid var(--grid);border-radius:8px;padding:.75rem 1rem;margin:0 0 .75rem;
unicode-bidi:isolate}
.excerpt mark{color:inherit;background:none;border-radius:3px;box-decoration-break:clone}
.excerpt .w1{background:color-mix(in srgb,var(--warning-edge) 18%,transparent)}
.excerpt .w2{background:color-mix(in srgb,var(--warning-edge) 32%,transparent)}
.excerpt .w3{background:color-mix(in srgb,var(--warning-edge) 46%,transparent)}
.excerpt .w4{background:color-mix(in srgb,var(--warning-edge) 60%,transparent)}
footer{color:var(--muted);font-size:.85rem;padding-bottom:2.5rem}
.tip{position:fixed;z-index:9;max-width:20rem;padding:.35rem .6rem;border-radius:6px;background:var(--ink);
color:var(--paper);font-size:.82rem;line-height:1.4;white-space:pre-line;pointer-events:none}
.tip[hidden]{display:none}
@media (max-width:40rem){header{padding-top:1.5rem}h1{font-size:1.5rem}header,nav,main,footer{padding-left:.75rem;
padding-right:.75rem}section{padding:1rem}.facts{grid-template-columns:1fr;gap:0}.facts dd{margin:0 0 .5rem}}
@media print{body{background:none}section{border:0;padding:0;break-inside:avoid}nav,summary{display:none}}
)css";

// While a mark is pointed at, its <title> is taken out, so that the browser does not show it, too.
constexpr std::string_view kScript = R"js(
(() => {
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  document.body.append(tip);
  let owner = null, title = null;
  const release = () => {
    if (owner) owner.prepend(title);
    owner = title = null;
    tip.hidden = true;
  };
  const move = event => {
    const {width, height} = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, window.innerWidth - width - 8);
    const below = event.clientY + 16;
    tip.style.left = Math.max(8, left) + 'px';
    tip.style.top = (below + height > window.innerHeight ? event.clientY - height - 12 : below) + 'px';
  };
  document.addEventListener('pointerover', event => {
    if (event.target === owner) return;
    release();
    const found = event.target.querySelector(':scope > title');
    if (!found || !event.target.closest('svg')) return;
    owner = event.target;
    title = found;
    tip.textContent = title.textContent;
    title.remove();
    tip.hidden = false;
    move(event);
  });
  document.addEventListener('pointermove', event => { if (owner) move(event); });
  document.addEventListener('pointerleave', release);
  document.addEventListener('scroll', release, true);
})();
)js";

// The hash is that of kScript (SHA-256, base64); a browser refuses the script when they differ, and the test sees it.
constexpr std::string_view kPolicy =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "script-src 'sha256-3ApZUoBi1mjI3sSmbRbVswqcIDC6qtq6GFOESBUIAJI='";

}  // namespace

std::string_view page_style() { return kStyle; }

std::string_view page_script() { return kScript; }

std::string_view page_policy() { return kPolicy; }

}  // namespace adze
