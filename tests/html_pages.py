"""Looking at HTML pages: their text as it is written, and how a browser shows them."""

import re
from collections import Counter
from html.parser import HTMLParser

from jaxvision.report.page import VOID


class Outline(HTMLParser):
    """Elements opened and closed in order, headings, ids, pictures without words."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.count, self.headings, self.ids, self.silent = [], Counter(), [], [], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes), "an attribute twice"
        self.count[tag] += 1
        self.ids += [values["id"]] if "id" in values else []
        self.silent += tag == "img" and not values["alt"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


MEASURE = """
const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b; };
const parsed = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n.slice(0, 3), n[3] ?? 1]; };
const behind = e => { if (!e) return [255, 255, 255];
  const [colour, alpha] = parsed(getComputedStyle(e).backgroundColor);
  if (alpha === 1) return colour; const below = behind(e.parentElement);
  return colour.map((v, i) => alpha * v + (1 - alpha) * below[i]); };
const faint = [];
for (const e of document.querySelectorAll("body *")) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const style = getComputedStyle(e), [front] = parsed(e.closest("svg") ? style.fill : style.color);
  const [a, b] = [light(front), light(behind(e))].sort((x, y) => y - x);
  if ((a + .05) / (b + .05) < 4.5) faint.push(e.outerHTML.slice(0, 200)); }
return { faint, elements: document.querySelectorAll("*").length, page: light(behind(document.body)),
  wide: document.documentElement.scrollWidth, window: innerWidth,
  pictures: [...document.images].map(i => [i.complete, i.naturalWidth, i.getBoundingClientRect().width]),
  boxes: [...document.querySelectorAll(".scroll")].map(b => [b.scrollWidth > b.clientWidth, b.tabIndex]),
  cut: [...document.querySelectorAll("h1, h2, h3, p, dd, dt, figcaption, li")].filter(
    e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline").map(e => e.outerHTML),
  said: document.body.innerText };
"""
"""What a browser makes of a page, as JSON: a script for `Browser.run`."""
