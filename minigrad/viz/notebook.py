"""What a picture gives to a notebook: a page, an SVG, a PNG, and always a text.

A notebook that is not trusted (one from somebody else, or shown by GitHub) takes frames, scripts
and SVG away. Then the text is shown; where that is not enough, ``set_jupyter("png")`` stands before
the first picture.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from minigrad.viz import html
from minigrad.viz.render import GraphvizError

KINDS = ("html", "svg", "png", "text")

#: What one cell may hold, in bytes: a notebook of many stays one that can be opened and mailed.
CELL = 300_000

_kind = "html"


def set_jupyter(kind: str) -> None:
    """How pictures are shown in notebooks, from the next cell on.

    Args:
        kind: ``"html"``, the interactive page (the default), with an SVG beside it for what shows
            no pages; ``"svg"``; ``"png"``, which is shown everywhere, on GitHub too; or ``"text"``.
    """
    global _kind
    if kind not in KINDS:
        raise ValueError(f"set_jupyter() takes one of {', '.join(KINDS)}; got {kind!r}.")
    _kind = kind


def bundle(picture: Any) -> dict[str, str]:
    """The picture by the names of MIME types; never an error, and never more than CELL bytes."""
    text = str(picture)
    if _kind == "text":
        return {"text/plain": text}
    best: dict[str, str] = {}
    try:
        for smaller in picture._sizes():
            shown = dict(forms(smaller))
            best = best or shown
            if asked(picture) in shown:
                return {"text/plain": text, **shown}
    except (GraphvizError, OSError) as error:
        return {"text/plain": f"{text}\n\n{error}"}
    said = 'Too large for a cell; render("net.html") writes a page, render("net.pdf") a picture.'
    return {"text/plain": f"{text}\n\n{said}", **best}


def asked(picture: Any) -> str:
    """The MIME type that ``set_jupyter`` asks for, as far as the picture has it."""
    if _kind == "html" and ".html" in picture.drawn:
        return "text/html"
    return "image/png" if _kind == "png" else "image/svg+xml"


def forms(picture: Any) -> Iterator[tuple[str, str]]:
    """The forms that are asked for, as far as they fit into a cell."""
    text = str(picture)
    room = CELL - len(text.encode())
    kind = asked(picture)
    if kind == "text/html":
        page = html.frame(picture.to_html(most_bytes=CELL // 3), text)
        if len(page.encode()) <= room:
            yield kind, page
            room -= len(page.encode())
    if kind != "image/png":
        svg = re.sub(r' id="[^"]*"', "", picture.to_svg())  # two cells must not share ids
        if len(svg.encode()) <= room:
            yield "image/svg+xml", svg
    else:
        png = b64encode(picture._drawn(".png")).decode()
        if len(png) <= room:
            yield kind, png
