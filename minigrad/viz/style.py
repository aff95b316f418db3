"""One table of colours and fonts for every picture.

Hues after Okabe and Ito (2008), which remain apart for colour-blind readers; and colour is never
the only mark: shape, dash and position repeat it. Every text has a contrast of at least 4.5:1 on
what it stands on (WCAG 2, level AA); the tests compute it for all of ``inks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

SANS = "Inter,Helvetica,Arial,sans-serif"
MONO = "DejaVu Sans Mono,Menlo,Consolas,monospace"


@dataclass(frozen=True)
class Theme:
    """Colours by what they mean: ``fill`` and ``line`` by kind of box, the rest for text."""

    page: str
    text: str
    muted: str  # what is said second
    alert: str  # what is probably a mistake
    mark: str  # signs that stand beside a name
    fill: dict[str, str]
    line: dict[str, str]

    def inks(self) -> Iterator[tuple[str, str, str]]:
        """(where, text colour, fill colour) of every text that a picture may show."""
        papers = {"page": self.page, **self.fill}
        for kind, paper in papers.items():
            yield f"text on {kind}", self.text, paper
            yield f"muted on {kind}", self.muted, paper
            yield f"alert on {kind}", self.alert, paper
        for kind in self.fill.keys() - {"module"}:
            yield f"line of {kind} as text", self.line[kind], self.fill[kind]
        for kind in ("page", "op", "module"):
            yield f"mark on {kind}", self.mark, papers[kind]
            yield f"gradient on {kind}", self.line["gradient"], papers[kind]
        yield "mark on gradient", self.mark, papers["gradient"]


THEMES = {
    "light": Theme(
        page="#FFFFFF",
        text="#1F2933",
        muted="#52606D",
        alert="#B3261E",
        mark="#A8447C",
        fill={
            "input": "#E1F0FA",
            "op": "#FFFFFF",
            "parameter": "#FFF0D0",
            "frozen": "#ECEEF1",
            "buffer": "#FAF6E4",
            "output": "#D8F1E8",
            "gradient": "#FCE4D8",
            "module": "#F5F7FA",
        },
        line={
            "input": "#006AA6",
            "op": "#3E4C59",
            "parameter": "#8A5A00",
            "frozen": "#5B6773",
            "buffer": "#6B5F0F",
            "output": "#00795A",
            "gradient": "#A84000",
            "module": "#CBD2D9",
        },
    ),
    "dark": Theme(
        page="#11161D",
        text="#E6EBF0",
        muted="#A3B0BE",
        alert="#FF9A91",
        mark="#E79AC4",
        fill={
            "input": "#10324A",
            "op": "#1D2630",
            "parameter": "#3F2E08",
            "frozen": "#2B323A",
            "buffer": "#322E12",
            "output": "#0B3A2D",
            "gradient": "#47210F",
            "module": "#171E27",
        },
        line={
            "input": "#56B4E9",
            "op": "#A9B6C2",
            "parameter": "#F0B43C",
            "frozen": "#A3ADB8",
            "buffer": "#D6C964",
            "output": "#35C79B",
            "gradient": "#FF8A4C",
            "module": "#33404D",
        },
    ),
}


def follow(svg: str) -> str:
    """Graphviz' SVG of a light picture that turns dark with the screen of whoever looks at it."""
    light, dark = AUTO, THEMES["dark"]
    parts = ("page", "text", "muted", "alert", "mark")
    pairs = {getattr(light, name): getattr(dark, name) for name in parts}
    for part in ("fill", "line"):
        shades = getattr(dark, part)
        pairs |= {colour: shades[kind] for kind, colour in getattr(light, part).items()}
    rules = []
    for day, night in pairs.items():
        names = (day.lower(), *(["white"] if day == "#FFFFFF" else []))  # Graphviz writes both
        rules += [f'[{part}="{n}"]{{{part}:{night}}}' for part in ("fill", "stroke") for n in names]
    style = f"<style>@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"
    start = svg.index(">", svg.index("<svg")) + 1
    return svg[:start] + style + svg[start:]


#: What "auto" is drawn in: light, each colour with one counterpart in the dark (page and ops have
#: the same white).
AUTO = replace(THEMES["light"], page="#FFFFFE")
