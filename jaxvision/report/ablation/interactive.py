"""What the page of an ablation has beside the style of all pages: its look, and a script that sorts and filters.

Without the script all is there to be read, in the order in which it was planned.
"""

STYLE = """
.notes { margin: 1rem 0 0; padding: .6rem .9rem .6rem 1.9rem; border: 1px solid var(--ideal); border-radius: .5rem;
  max-width: 60rem; }
.findings { margin: .5rem 0 1rem; padding-left: 1.2rem; max-width: 50rem; }
.findings li { margin: .4rem 0; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
.forest { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .9rem; margin: .5rem 0 1.25rem; }
.forest .row { display: grid; grid-template-columns: minmax(8rem, 18rem) minmax(0, 1fr) 14.5rem; align-items: center;
  column-gap: 1rem; }
.forest .number { font-variant-numeric: tabular-nums; font-size: .875rem; text-align: right;
  white-space: nowrap; }
.forest .row > .name { font-size: .9375rem; line-height: 1.25; }
.forest .row > svg { display: block; width: 100%; height: 2.5rem; overflow: visible; }
.forest .axis > svg { height: 1.6rem; }
.forest text { fill: var(--soft); font-size: 12px; }
.forest .range { stroke: var(--bar); stroke-width: 3; }
.forest circle, .forest rect { fill: var(--bar); }
.forest .told .range { stroke: var(--ideal); } .forest .told rect { fill: var(--ideal); }
.forest .grid { stroke: var(--line); stroke-width: 1; }
.forest .base { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; }
.forest .seed { stroke: var(--soft); stroke-width: 1.5; }
.key { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: .25rem 0 .75rem; list-style: none;
  font-size: .875rem; color: var(--soft); }
.key li { display: flex; align-items: center; gap: .45rem; }
.key svg { flex: none; width: 1.75rem; height: 1rem; }
.key .bar { fill: var(--bar); } .key .told { fill: var(--ideal); }
.key .seed, .key .refer { stroke: var(--soft); stroke-width: 1.5; } .key .refer { stroke-dasharray: 4 3; }
.key .range { stroke: var(--bar); stroke-width: 3; }
.curves { display: grid; gap: .75rem; padding: 0; margin: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.curves .card h3 { margin: 0 0 .25rem; }
.curves svg { display: block; width: 100%; height: auto; }
.curves text { fill: var(--soft); font-size: 11px; }
.curves .grid { stroke: var(--line); stroke-width: 1; }
.validation { stroke: var(--ideal); stroke-width: 2; fill: none; }
.train { stroke: var(--bar); stroke-width: 2; stroke-dasharray: 5 3; fill: none; }
.refer { stroke: var(--soft); stroke-width: 1.25; stroke-dasharray: 2 3; fill: none; }
.band { fill-opacity: .22; stroke: none; } .band.validation { fill: var(--ideal); } .band.train { fill: var(--bar); }
.dot.validation { fill: var(--ideal); stroke: none; } .dot.train { fill: var(--bar); stroke: none; }
.status { display: inline-block; padding: 0 .5rem; border: 1px solid var(--line); border-radius: 1rem; }
.status.failed { border-color: var(--ideal); font-weight: 600; }
.status.missing, .status.begun { border-style: dashed; }
td.words { text-align: left; white-space: normal; overflow-wrap: break-word; max-width: 26rem; }
td.words { min-width: 6rem; } td.path { text-align: left; }
td pre { margin: .25rem 0; white-space: pre-wrap; font-size: .8125rem; }
td .soft { display: block; }
td.told { font-weight: 600; }
.sortable th[scope=col] { white-space: normal; overflow-wrap: normal; min-width: 5rem; }
.sortable th.words { text-align: left; }
thead button { all: unset; cursor: pointer; }
thead button:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
thead button::after { content: "\\a0\\2195"; color: var(--soft); font-weight: 400; }
th[aria-sort=ascending] button::after { content: "\\a0\\2191"; color: inherit; }
th[aria-sort=descending] button::after { content: "\\a0\\2193"; color: inherit; }
.filter { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; margin: .5rem 0; }
.filter input { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--soft);
  border-radius: .4rem; padding: .35rem .6rem; width: 16rem; max-width: 100%; }
.filter output { color: var(--soft); font-size: .875rem; }
@media (max-width: 40rem) {
  .forest .row { grid-template-columns: minmax(0, 1fr); }
  .forest .row:not(.axis, :first-child) { padding-top: .4rem; }
  .forest .number { text-align: left; }
  .forest .row > svg { grid-row: 3; height: 1.75rem; }
  .forest .axis > svg { height: 1.6rem; }
}
@media print { .filter { display: none; } .scroll { max-height: none; } }
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const sort = (column, sign) => {
    const isNumber = heads[column].dataset.kind === "number";
    const compare = (a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what is not known comes last either way
      return sign * (isNumber ? x - y : x.localeCompare(y, "en", { numeric: true }));
    };
    body.append(...rows.slice().sort(compare));
    heads.forEach((head, at) => head.setAttribute("aria-sort",
      at !== column ? "none" : sign > 0 ? "ascending" : "descending"));
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") === "ascending" ? -1 : 1));
  });
  const label = document.createElement("label"), input = document.createElement("input");
  const told = document.createElement("output"), line = document.createElement("div");
  input.type = "search";
  input.id = `${table.id}-filter`;
  label.htmlFor = input.id;
  label.textContent = "Show rows with";
  line.className = "filter";
  line.append(label, input, told);
  table.parentElement.before(line);
  const filter = () => {
    const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
    const shown = rows.filter(row => !row.hidden).length;
    told.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  };
  input.addEventListener("input", filter);
}
"""
