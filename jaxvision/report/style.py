"""How HTML pages look: one column that widens to a grid, light or dark as the reader's system is.

Blue stands for right and orange for wrong, which any colour vision tells apart; nothing is said by colour alone. The
shades of cells are light in the light page and dark in the dark one, so that the page's own text is readable on them.
"""

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f5f7f9; --text: #1b1f24; --soft: #535c66; --line: #d3d9df;
  --link: #00559e; --right: 120 186 240; --wrong: 246 176 96; --bar: #0072b2; --ideal: #a85800; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1d2126; --text: #e7e9eb; --soft: #a7b0b9;
  --line: #383f46; --link: #84bff7; --right: 20 88 146; --wrong: 136 74 4; --bar: #56b4e9; --ideal: #f0a850; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .25rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
main:focus { outline: none; }
.skip { position: absolute; left: -999rem; padding: .5rem 1rem; background: var(--page); }
.skip:focus { left: .5rem; top: .5rem; z-index: 9; }
header > .soft { margin: 1rem 0 0; }
.intro, .soft, figcaption, caption { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 1rem 0 0; list-style: none; }
nav a { display: inline-block; padding: .3rem 0; }
dl { margin: 0; }
dt { color: var(--soft); font-size: .875rem; }
dd { margin: 0; }
.tiles, .facts { display: grid; gap: .75rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 10rem), 1fr)); }
.tiles { margin-bottom: 1.25rem; }
.tiles > div { padding: .6rem .9rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
.tiles dd { font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.cards { display: grid; gap: 1rem; padding: 0; margin: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.card { padding: .75rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; min-width: 0; }
.pictures { display: grid; gap: .5rem; grid-template-columns: repeat(var(--across, 3), minmax(0, 1fr)); }
figure { margin: 0; }
figcaption { font-size: .8125rem; line-height: 1.3; }
img { display: block; width: 100%; height: auto; margin-bottom: .25rem; border-radius: .25rem;
  background: var(--line); }
img.pixels { image-rendering: pixelated; }
.card h3 { font-size: .9375rem; font-weight: 600; margin: .5rem 0 .25rem; }
.card p { margin: .25rem 0 0; font-size: .9375rem; }
.answers > div { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .75rem; font-size: .9375rem; }
.answers dt { font-size: inherit; }
.answers dd { font-variant-numeric: tabular-nums; }
.scroll + .scroll { margin-top: 1rem; }
.scroll { overflow: auto; width: fit-content; max-width: 100%; max-height: 85vh;
  border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
caption { padding: .5rem 0; text-align: left; }
caption > span { display: block; position: sticky; left: 0; width: max-content; padding: 0 .75rem;
  max-width: min(40rem, 100vw - 4rem); }
th, td { padding: .3rem .6rem; border-top: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { position: sticky; top: 0; z-index: 1; background: var(--card); vertical-align: bottom; }
th:first-child { position: sticky; left: 0; z-index: 1; background: var(--card); text-align: left; font-weight: 600; }
tbody th > span { display: block; width: max-content; max-width: min(12rem, 30vw); white-space: normal; }
thead th:first-child { z-index: 2; }
.matrix td { background: rgb(var(--wrong) / var(--shade, 0)); border-left: 1px solid var(--line); line-height: 1.25; }
.matrix td.hit { background: rgb(var(--right) / var(--shade, 0)); font-weight: 600; }
.matrix td small { display: block; font-size: .75rem; font-weight: 400; }
.matrix.many thead th:not(:first-child) { padding: .5rem .3rem; }
.matrix.many thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 11rem; overflow: hidden;
  text-overflow: ellipsis; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; margin: 0 0 1rem; list-style: none; }
.legend span { display: inline-block; width: 1rem; height: 1rem; margin-right: .4rem; vertical-align: -.15rem;
  border: 1px solid var(--soft); border-radius: .2rem; }
.plot { display: block; width: 100%; max-width: 22rem; height: auto; margin: .5rem 0 1rem; }
.plot text { fill: var(--text); font-size: 12px; }
.plot .bar { fill: var(--bar); } .plot .ideal { stroke: var(--ideal); stroke-width: 2; stroke-dasharray: 6 4; }
.plot .axis { stroke: var(--soft); stroke-width: 1; }
"""
