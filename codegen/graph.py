"""A class among its supertypes and subtypes, drawn: every page has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

LETTER, HEIGHT, GAP, ROW, MARGIN = 8, 30, 18, 64, 4

# Colours of the site's theme where it is part of one; greys that are read on white and on black where it is alone.
_NODE = """\
<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" stroke-width="{stroke}" \
fill="var(--color-background-secondary, none)" stroke="var(--color-foreground-muted, #77808c)"/>
<text x="{middle}" y="{base}" text-anchor="middle" font-family="monospace" font-size="13" font-weight="{weight}" \
fill="var(--color-foreground-primary, #77808c)">{name}</text>
"""
_EDGE = """\
<path d="M{x1} {y1} L{x2} {y2}" fill="none" marker-end="url(#{marker})" \
stroke="var(--color-foreground-muted, #77808c)"/>
"""
_FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
role="img" aria-label="{title}">
<defs><marker id="{marker}" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="9" markerHeight="9" orient="auto">\
<path d="M0 0 L10 5 L0 10 z" fill="var(--color-background-primary, none)" \
stroke="var(--color-foreground-muted, #77808c)"/></marker></defs>
{body}</svg>
"""


def describe(name: str, parents: Mapping[str, Sequence[str]]) -> str:
    """The graph in words."""
    above = ", ".join(ancestors(name, parents)) or "nothing here"
    below = descendants(name, parents)
    return f"{name} extends {above}" + (f"; {', '.join(below)} extend it" if below else "")


def draw(name: str, parents: Mapping[str, Sequence[str]]) -> str:
    """An SVG of everything that ``name`` extends, above it, and of what extends it, below."""
    shown = [*ancestors(name, parents), name, *descendants(name, parents)]
    rows: dict[int, list[str]] = {}
    for one in shown:
        rows.setdefault(_depth(one, parents), []).append(one)
    widths = {one: len(one) * LETTER + 24 for one in shown}
    lengths = {depth: sum(widths[one] + GAP for one in row) - GAP for depth, row in rows.items()}
    width = max(lengths.values()) + 2 * MARGIN
    places: dict[str, tuple[int, int]] = {}
    for depth, row in rows.items():
        x = (width - lengths[depth]) // 2
        for one in row:
            places[one] = (x, MARGIN + (depth - min(rows)) * ROW)
            x += widths[one] + GAP
    marker = f"extends-{name}"
    edges = [(one, other) for one in shown for other in parents.get(one, ()) if other in shown]
    body = "".join(_edge(places[one], widths[one], places[other], widths[other], marker) for one, other in edges)
    body += "".join(_node(one, places[one], widths[one], one == name) for one in shown)
    height = (len(rows) - 1) * ROW + HEIGHT + 2 * MARGIN
    title = escape(describe(name, parents))
    return _FRAME.format(width=width, height=height, title=title, body=body, marker=marker)


def ancestors(name: str, parents: Mapping[str, Sequence[str]]) -> list[str]:
    """All that ``name`` extends, nearest first."""
    found = dict.fromkeys(parents.get(name, ()))
    for parent in list(found):
        found |= dict.fromkeys(ancestors(parent, parents))
    return sorted(found, key=lambda one: -_depth(one, parents))


def descendants(name: str, parents: Mapping[str, Sequence[str]]) -> list[str]:
    """All that extend ``name``, in the order of ``parents``."""
    return [one for one in parents if name in ancestors(one, parents)]


def _depth(name: str, parents: Mapping[str, Sequence[str]]) -> int:
    return 1 + max((_depth(one, parents) for one in parents.get(name, ())), default=-1)


def _edge(child: tuple[int, int], width: int, parent: tuple[int, int], other: int, marker: str) -> str:
    return _EDGE.format(
        x1=child[0] + width // 2, y1=child[1], x2=parent[0] + other // 2, y2=parent[1] + HEIGHT, marker=marker
    )


def _node(name: str, place: tuple[int, int], width: int, chosen: bool) -> str:
    x, y = place
    return _NODE.format(
        x=x,
        y=y,
        width=width,
        height=HEIGHT,
        middle=x + width // 2,
        base=y + 20,
        name=escape(name),
        stroke=2 if chosen else 1,
        weight="bold" if chosen else "normal",
    )
