"""An HTML page that is one file: text is escaped as it is put in, pictures are inside, nothing is fetched.

Parts of a page are `Markup`, made by `element` and by the functions here that use it; a plain string among its
children is text. `document` puts sections under a title with links to them.
"""

import base64
import hashlib
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from jaxvision.report.style import STYLE

MOST_PIXELS = 256
"""Of the longer side of a picture; larger ones are reduced."""

FEW_PIXELS = 64
"""Of the longer side: such a picture is kept exactly, and shown with its pixels as squares."""

VOID = frozenset(("br", "img", "link", "meta", "wbr"))
# Characters that no HTML page may hold, and halves of pairs, which file names that are no UTF-8 are read as.
_FORBIDDEN = {code: "\ufffd" for code in (*range(9), 11, 12, *range(14, 32), 127, *range(0xD800, 0xE000))}


class Markup(str):
    """HTML; what is only a str is text, and is escaped when it is put into HTML."""

    __slots__ = ()


Child = str | float | None
"""Markup, or text; None leaves nothing."""


def element(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """<name attributes>children</name>. Attributes that are None are left out; class_ means class, aria_label
    aria-label."""
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escaped(value)}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in VOID else f"{opening}{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Markup:
    """The children one after the other, text escaped."""
    return Markup("".join(map(escaped, children)))


def escaped(child: Child) -> Markup:
    """Text as HTML; Markup as it is."""
    if child is None or isinstance(child, Markup):
        return child or Markup()
    return Markup(html.escape(str(child).translate(_FORBIDDEN)))


@dataclass(frozen=True)
class Section:
    """title: the heading, and what links to it say. intro: a sentence below it. parts: the content."""

    title: str
    intro: str
    parts: Sequence[Markup]


def document(
    title: str, sections: Sequence[Section], *, lead: Sequence[Markup] = (), style: str = "", script: str = ""
) -> str:
    """The whole page: its title, what leads in, links to the sections, the sections.

    style, script: CSS beside that of all pages, and the only script that the page may run, at its end.
    """
    links = element("ul", *(element("li", element("a", s.title, href=f"#s{n}")) for n, s in enumerate(sections, 1)))
    body = [joined(["\n", _section(section, f"s{number}")]) for number, section in enumerate(sections, 1)]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=GENERATOR),
        # Even if markup came in through a name, nothing would be loaded or run.
        element("meta", http_equiv="Content-Security-Policy", content=POLICY + _allowed(script)),
        element("title", title),
        Markup(f"<style>{STYLE}{style}</style>"),
    )
    page = element(
        "body",
        element("a", "Skip to the content", class_="skip", href="#content"),
        element("header", element("h1", title), *lead),
        element("nav", links, aria_label="Sections"),
        element("main", *body, id="content", tabindex=-1),
        Markup(f"<script>{script}</script>") if script else None,
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}\n{page}</html>\n'


GENERATOR = "jaxvision"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _allowed(script: str) -> str:
    """By its hash, so that no other script is."""
    if not script:
        return ""
    return f"; script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _section(section: Section, anchor: str) -> Markup:
    heading = element("h2", section.title, id=f"{anchor}-title")
    intro = element("p", section.intro, class_="intro")
    return element("section", heading, intro, *section.parts, id=anchor, aria_labelledby=f"{anchor}-title")


def facts(values: Mapping[str, Child], *, class_: str = "facts") -> Markup:
    """Names with their values."""
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in values.items())
    return element("dl", *pairs, class_=class_)


def cards(items: Iterable[Markup]) -> Markup:
    """Items side by side, as many as there is room for."""
    return element("ul", *(joined(["\n", element("li", item, class_="card")]) for item in items), class_="cards")


def image(picture: np.ndarray, alt: str, caption: Child) -> Markup:
    """A figure with a picture uint8 (H, W, C), C 1 or 3, of at most 256 pixels inside the page.

    alt: what it shows, for those who do not see it.
    """
    kind, content = image_file(picture)
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    is_small = "pixels" if max(picture.shape[:2]) <= FEW_PIXELS else None
    height, width = picture.shape[:2]
    return element(
        "figure",
        element("img", src=Markup(source), alt=alt, width=width, height=height, class_=is_small),
        element("figcaption", caption),
    )


def image_file(picture: np.ndarray) -> tuple[str, bytes]:
    """("png" or "jpeg", the file) of a picture uint8 (H, W, C), reduced to 256 pixels; small ones exactly."""
    drawn = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    file = io.BytesIO()
    if max(drawn.size) <= FEW_PIXELS:
        drawn.save(file, "PNG")
        return "png", file.getvalue()
    drawn.thumbnail((MOST_PIXELS, MOST_PIXELS), Image.Resampling.LANCZOS)
    drawn.save(file, "JPEG", quality=85, subsampling=0)
    return "jpeg", file.getvalue()


def table(caption: str, head: Sequence[Child], rows: Iterable[Sequence[Child]]) -> Markup:
    """A table whose first column names its rows."""
    cells = ((row_head(first), *(element("td", c) for c in rest)) for first, *rest in rows)
    return table_of(caption, [element("th", name, scope="col") for name in head], cells)


def row_head(name: Child) -> Markup:
    """The first cell of a row, which stays in sight."""
    return element("th", element("span", name), scope="row")


def table_of(
    caption: str,
    head: Iterable[Markup],
    rows: Iterable[Iterable[Markup]],
    *,
    class_: str | None = None,
    id_: str | None = None,
) -> Markup:
    """A table of cells that are elements, in a box of its own that scrolls where it is wide or long."""
    top = element("thead", element("tr", *head))
    body = element("tbody", *(joined(["\n", element("tr", *row)]) for row in rows))
    whole = element("table", element("caption", element("span", caption)), top, body, class_=class_, id=id_)
    return element("div", whole, class_="scroll", role="region", aria_label=caption, tabindex=0)


PERCENT = "\N{NO-BREAK SPACE}%"


def share(value: float) -> str:
    """A share in percent: 97.5 %; only none is called 0 and only all 100 %."""
    return f"{100 * value:.0f}{PERCENT}" if value in (0, 1) else chance(value)


def chance(probability: float) -> str:
    """A probability in percent; none is ever 0 or 1, though numbers may be rounded to it."""
    if probability < 0.0005:
        return f"< 0.1{PERCENT}"
    return f"> 99.9{PERCENT}" if probability >= 0.9995 else f"{100 * probability:.1f}{PERCENT}"
