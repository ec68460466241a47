"""The pieces of a report's page: plain HTML and CSS, everything in the file, nothing fetched and no script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from equipoise.plots.canvas import line_style, svg
from equipoise.plots.exhibits import Exhibit

CSS = """
:root { color-scheme: light dark; --text: #24292f; --page: #ffffff; --quiet: #59636e; --line: #d1d9e0; --soft: #f6f8fa;
  --link: #0b5cad; --alarm: #a40e26 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --page: #16191d; --quiet: #a0a8b2; --line: #3a4049;
  --soft: #1f242a; --link: #79b8ff; --alarm: #ff9aa8 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 3rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.5rem 0 .75rem; padding-top: 1rem;
  border-top: 1px solid var(--line) }
h1, h2, p, figcaption, summary, li { overflow-wrap: anywhere }
a { color: var(--link) }
.quiet, figcaption { color: var(--quiet) }
.alarm { color: var(--alarm) }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums }
th, td { padding: .4rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
tbody tr:last-child > * { border-bottom: 0 }
thead th { background: var(--soft) }
tbody th { font-weight: 600 }
.wide td { white-space: nowrap }
.wide td.words { white-space: normal; min-width: 13rem }
.wide thead th { vertical-align: bottom; line-height: 1.25 }
.wide tbody th { white-space: nowrap }
.number { text-align: right }
details { margin: .5rem 0 }
summary { cursor: pointer; padding: .25rem 0 }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.5rem 2rem }
figure { margin: 0; min-width: 0 }
figure.full { grid-column: 1 / -1 }
figure > svg { display: block; width: 100%; max-width: 28rem; height: auto }
figure.full > svg { max-width: 60rem }
figure > svg.slim { display: none; max-width: 24rem }
svg * { stroke-linejoin: round; stroke-linecap: butt }
figcaption { font-size: .875rem; margin-top: .4rem; max-width: 42rem }
figcaption b { color: var(--text) }
.swatch { width: 1.6rem; height: .4rem; margin-right: .5rem; vertical-align: middle }
@media (max-width: 44rem) { figure > svg.broad { display: none } figure > svg.slim { display: block } }
"""

Cell = tuple[str, str]
"""A table's cell, as HTML (of a head, as text), and its class."""


def text(value: object) -> str:
    """Any value as text of the page: nothing in it is markup."""
    return html.escape(str(value))


def document(title: str, body: Iterable[str]) -> str:
    """A whole page. Its policy forbids the browser to fetch anything or run any script."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = (
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{CSS}</style>"
    )
    start = f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n<main>'
    return "\n".join([start, *body, "</main>\n</body>\n</html>\n"])


def table(heads: Sequence[Cell], rows: Iterable[Sequence[Cell]], *, label: str) -> str:
    """A table that scrolls sideways by itself; the first cell of a row is its head, a row that is short ends widely."""
    top = "".join(f'<th scope="col" class="{kind}">{text(head)}</th>' for head, kind in heads)
    body = "\n".join(f"<tr>{_row(row, len(heads))}</tr>" for row in rows)
    content = f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return _scrolling(f'<table class="wide">\n{content}\n</table>', label)


def pairs(entries: Iterable[tuple[str, object]], *, label: str) -> str:
    """Names and values."""
    rows = "\n".join(f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in entries)
    return _scrolling(f"<table><tbody>\n{rows}\n</tbody></table>", label)


def folded(summary: str, content: str) -> str:
    """What is shown once its summary is opened."""
    return f"<details><summary>{text(summary)}</summary>\n{content}\n</details>"


def gallery(exhibits: Sequence[Exhibit], *, key: str) -> str:
    """Figures with their captions, side by side where the page is wide."""
    return "\n".join(
        ['<div class="figures">', *(_figure(entry, f"{key}f{place}") for place, entry in enumerate(exhibits)), "</div>"]
    )


def swatch(place: int) -> str:
    """The line by which a run is drawn in every figure of several runs."""
    colour, dashes = line_style(place)
    pattern = " ".join(f"{2 * length:g}" for length in dashes)
    stroke = f'stroke="{colour}" stroke-width="3" stroke-dasharray="{pattern or "none"}"'
    return (
        f'<svg class="swatch" viewBox="0 0 26 6" aria-hidden="true"><line x1="0" y1="3" x2="26" y2="3" {stroke}/></svg>'
    )


def _scrolling(content: str, label: str) -> str:
    """Sideways by itself, by finger or, once focused, by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">{content}</div>'


def _row(row: Sequence[Cell], width: int) -> str:
    (head, _), *cells = row
    spans = [""] * (len(cells) - 1) + [f' colspan="{width - len(cells)}"' if width - len(cells) > 1 else ""]
    shown = zip(cells, spans, strict=True)
    rest = "".join(f'<td class="{kind}"{span}>{cell}</td>' for (cell, kind), span in shown)
    return f'<th scope="row">{head}</th>{rest}'


def _figure(exhibit: Exhibit, key: str) -> str:
    title = text(exhibit.title)
    caption = f"<figcaption><b>{title}.</b> {text(exhibit.caption)}</figcaption>"
    drawn = svg(exhibit.figure, key=key, title=title)
    if exhibit.narrow is None:
        return f"<figure>\n{drawn}\n{caption}\n</figure>"
    slim = svg(exhibit.narrow, key=f"{key}n", title=title)
    both = drawn.replace("<svg", '<svg class="broad"', 1) + "\n" + slim.replace("<svg", '<svg class="slim"', 1)
    return f'<figure class="full">\n{both}\n{caption}\n</figure>'
