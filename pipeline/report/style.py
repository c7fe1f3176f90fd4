"""The one style sheet of all report pages: light and dark, wide and narrow, screen and print."""

# Blue and vermilion tell right from wrong: they differ for every kind of colour vision, and in lightness. Text has a
# contrast of at least 4.5 to its ground in both variants. A cell's ground blends over the surface, see `class_charts`.
COLOURS = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --surface: #ffffff; --ink: #1b1f24; --muted: #59626d; --line: #e1e3e6; --axis: #8b939d;
  --right: #0b5c9e; --wrong: #b5470a; --third: #00705a; --fourth: #8a3a7e;
  --cell-right: #084b83; --cell-wrong: #9a3c00; --on-cell: #ffffff; --shadow: 0 1px 2px rgb(20 25 30 / .06);
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #13161a; --surface: #1b1f25; --ink: #e7e9ec; --muted: #a3acb7; --line: #2e343c; --axis: #6f7883;
    --right: #6fb3ee; --wrong: #ff9c63; --third: #4fcfa8; --fourth: #dca3d3;
    --cell-right: #5aa0dc; --cell-wrong: #e67e3c; --on-cell: #0d1014; --shadow: none;
  }
}
"""

LAYOUT = """
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 3rem); background: var(--page); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
header, main, footer { max-width: 70rem; margin-inline: auto; }
h1 { margin: 0; font-size: clamp(1.6rem, 1.1rem + 2vw, 2.3rem); line-height: 1.15; letter-spacing: -.02em; font-weight: 650; }
h2 { margin: 0 0 .25rem; font-size: 1.25rem; letter-spacing: -.01em; font-weight: 640; }
h3 { margin: 0 0 .5rem; font-size: 1.02rem; font-weight: 600; }
h1, h2, h3, td, th, dd, li, figcaption { overflow-wrap: anywhere; }
.note { margin: 0 0 1.1rem; max-width: 44rem; color: var(--muted); font-size: .92rem; }
nav { margin-top: 1.1rem; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; font-size: .9rem; }
a { color: var(--right); text-underline-offset: .2em; text-decoration-thickness: 1px; }
:focus-visible { outline: 2px solid var(--right); outline-offset: 3px; }
section { margin-top: 3rem; }
footer { margin-top: 3.5rem; color: var(--muted); font-size: .85rem; }
.facts { display: flex; flex-wrap: wrap; gap: .6rem 2.2rem; margin: 1.1rem 0 0; }
.facts dt { color: var(--muted); font-size: .8rem; }
.facts dd { margin: 0; font-weight: 550; }
.panel, .cards > div, .gallery figure, details {
  background: var(--surface); border: 1px solid var(--line); border-radius: 12px; box-shadow: var(--shadow);
}
.panel { padding: 1.25rem; }
.panel > :first-child { margin-top: 0; }
.panel > :last-child { margin-bottom: 0; }
.panel ~ .panel, .cards + .panel { margin-top: 1rem; }
.scroll { overflow-x: auto; }
.scroll > svg { margin-inline: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr)); gap: 1rem; margin: 0; }
.cards > div { padding: 1.1rem 1.25rem; display: flex; flex-direction: column; }
.cards dt { color: var(--muted); font-size: .9rem; }
.cards dd { margin: 0; }
.cards .value { font-size: 2.3rem; line-height: 1.25; font-weight: 620; letter-spacing: -.03em; }
.cards .why { color: var(--muted); font-size: .82rem; line-height: 1.4; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1.5rem 1rem; }
.charts figure { display: flex; flex-direction: column; justify-content: space-between; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1rem; }
.gallery figure { padding: .9rem 1rem .7rem; display: flex; flex-direction: column; justify-content: space-between; }
figure { margin: 0; min-width: 0; }
figcaption { margin-bottom: .5rem; line-height: 1.35; }
figcaption .sub { display: block; color: var(--muted); font-size: .8rem; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.beside { gap: 1.5rem 2.5rem; align-items: center; }
.beside figure { max-width: 25rem; }
.beside p { margin: 0 0 .8rem; }
* + h3 { margin-top: 1.8rem; }
.group { display: grid; gap: 1rem; margin-top: 1rem; }
.group > div { min-width: 0; }
.group .big { margin: 0; font-size: 1.6rem; line-height: 1.25; font-weight: 620; }
@media (min-width: 64rem) { .group { grid-template-columns: repeat(3, 1fr); } .group > div + div { grid-column: span 2; } }
@media (max-width: 44rem) {
  .row { grid-template-columns: none; grid-auto-flow: column; grid-auto-columns: min(84%, 19rem); overflow-x: auto; }
}
audio { display: block; width: 100%; height: 2.4rem; margin-top: .5rem; }
details { padding: .9rem 1.25rem; }
summary { cursor: pointer; font-weight: 550; }
details .scroll { margin-top: .9rem; }
@media print { .panel, .cards > div, figure, tr { break-inside: avoid; } nav, audio { display: none; } }
"""

PARTS = """
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; color: var(--muted); font-size: .85rem; padding-bottom: .5rem; }
th, td { padding: .42rem .9rem .42rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: middle; }
thead th { color: var(--muted); font-weight: 500; font-size: .85rem; border-bottom-color: var(--axis); white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 550; min-width: 7rem; }
.number { text-align: right; }
.settings { font: .85rem/1.5 ui-monospace, "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.settings tbody th { font-weight: 400; color: var(--muted); }
.ratio { display: grid; grid-template-columns: 4.1rem minmax(3rem, 1fr); align-items: center; gap: .6rem; }
.ratio > span { text-align: right; white-space: nowrap; }
.bar { height: 6px; border-radius: 3px; background: var(--line); overflow: hidden; }
@media (max-width: 44rem) { .ratio { grid-template-columns: 4.1rem; } .bar { display: none; } }
.bar > i { display: block; height: 100%; border-radius: 3px; background: var(--right); }
.wrong { color: var(--wrong); font-weight: 600; }
.drawn { color: var(--third); } .real { color: var(--right); }
.strip { width: auto; }
.strip th, .strip td { padding: .2rem .5rem .2rem 0; border-bottom: 0; }
.strip tbody th { position: sticky; left: 0; min-width: 6.8rem; font-size: .85rem; background: var(--surface); }
.strip img { display: block; width: 5.6rem; height: 3.4rem; border-radius: 4px; }
code { font: .9em ui-monospace, "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.key { display: inline-flex; align-items: center; gap: .4rem; margin-right: 1rem; color: var(--muted); font-size: .85rem; }
figcaption b + .key { margin-left: .8rem; }
svg { display: block; width: 100%; height: auto; font-size: 12px; }
svg.fixed { width: auto; }
.ramp { margin-bottom: .8rem; }
.key svg { width: 26px; height: 12px; flex: none; }
svg text { fill: var(--muted); font-family: inherit; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--axis); stroke-width: 1; fill: none; }
svg .ideal { stroke: var(--axis); stroke-width: 1.5; stroke-dasharray: 4 4; }
svg .line { fill: none; stroke: var(--hue); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .dot { fill: var(--hue); stroke: var(--surface); stroke-width: 1; }
.s0 { --hue: var(--right); } .s1 { --hue: var(--wrong); } .s2 { --hue: var(--third); } .s3 { --hue: var(--fourth); }
.s1 .line { stroke-dasharray: 7 4; } .s2 .line { stroke-dasharray: 1 5; stroke-width: 2.6; }
.s3 .line { stroke-dasharray: 9 4 1 4; }
svg .right { fill: var(--right); } svg .too-sure { fill: var(--wrong); fill-opacity: .6; }
svg .too-modest { fill: var(--third); fill-opacity: .6; }
svg .cell-right { fill: var(--cell-right); } svg .cell-wrong { fill: var(--cell-wrong); }
svg .label { fill: var(--ink); }
svg .count { fill: var(--ink); text-anchor: middle; dominant-baseline: central; }
svg .on { fill: var(--on-cell); font-weight: 600; }
"""

# Of a search: trials in the colour of their state, the best in ink.
TRIALS = """
.keys { margin: 0 0 .6rem; }
svg .mark { stroke-width: 1.5; fill: none; }
svg .finished { --hue: var(--right); } svg .stopped { --hue: var(--right); }
svg .running { --hue: var(--third); } svg .failed { --hue: var(--wrong); } svg .best { --hue: var(--ink); }
svg .mark.finished, svg .mark.running { fill: var(--hue); stroke: var(--surface); stroke-width: 1; }
svg .mark.stopped { fill: var(--surface); stroke: var(--hue); }
svg .mark.failed { stroke: var(--hue); stroke-width: 2; }
svg .ring { fill: none; stroke: var(--ink); stroke-width: 2; }
svg .trial { fill: none; stroke: var(--hue, var(--right)); stroke-width: 1.3; stroke-linejoin: round; }
svg .trial.stopped { stroke-opacity: .35; } svg .trial.finished, svg .trial.running, svg .trial.failed { stroke-opacity: .75; }
svg .trial.best { stroke-width: 2.8; }
svg .trial.unscored { stroke: var(--axis); stroke-dasharray: 3 4; stroke-opacity: .6; }
svg .halo { paint-order: stroke; stroke: var(--surface); stroke-width: 4; stroke-linejoin: round; }
.tag { margin-left: .4rem; padding: 0 .45rem; border: 1px solid var(--axis); border-radius: 1rem; font-size: .8rem; font-weight: 500; }
.trials thead th { white-space: normal; overflow-wrap: normal; vertical-align: bottom; }
.trials tbody th { min-width: 5rem; }
.values th, .values td { overflow-wrap: break-word; }
.trials { font-size: .85rem; }
.trials th, .trials td { padding-right: .7rem; white-space: nowrap; }
.reasons { margin: 0; padding: 0; list-style: none; font-size: .92rem; }
.reasons li + li { margin-top: .5rem; }
.reasons details { padding: 0; border: 0; background: none; box-shadow: none; }
.reasons details > p { margin: .5rem 0; max-height: 20rem; overflow: auto; font-size: .85rem; white-space: pre-wrap; }
"""

CSS = COLOURS + LAYOUT + PARTS + TRIALS
