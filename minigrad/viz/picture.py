"""Picture: what can be looked at as a picture, as a text, or as data. Graph: what ``viz.graph``
returns.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import webbrowser
from collections.abc import Container
from dataclasses import asdict
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from minigrad.viz import dot, text
from minigrad.viz.render import GraphvizError, draw
from minigrad.viz.shrink import shrink
from minigrad.viz.trace import Trace

SCHEMA = 1  #: of ``to_dict``; grows when a field changes its meaning
DRAWN = (".svg", ".png", ".pdf")
WRITTEN = (".dot", ".json", ".txt")


class Picture:
    """A drawing that Graphviz makes, with a text for where there is none.

    In a notebook it shows itself; ``print`` gives the text, ``render`` writes a file. A subclass
    says the text (``__str__``), the data (``to_dict``) and the DOT (``_dot``).
    """

    title: str

    def to_dict(self) -> dict[str, Any]:
        """What is shown, as JSON has it."""
        raise NotImplementedError(f"{type(self).__name__} has no to_dict(); define one.")

    def _dot(self, dpi: int | None = None) -> str:
        raise NotImplementedError(f"{type(self).__name__} has no _dot(); define one.")

    def to_dot(self) -> str:
        """DOT, the language of Graphviz; needs no Graphviz."""
        return self._dot()

    def to_svg(self) -> str:
        """The picture as SVG. Raises GraphvizError where nothing can draw it."""
        svg = draw(self._dot(), "svg").decode()
        label = escape(dot.clean(self.title, 200))
        return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)

    # ---- as a picture ------------------------------------------------------------------------

    def render(self, path: str | os.PathLike[str]) -> Path:
        """Write a file; its suffix decides: .svg, .png, .pdf, .dot, .json or .txt.

        Raises:
            ValueError: another suffix.
            GraphvizError: nothing can draw; the DOT text is then saved beside, under the same name.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in DRAWN + WRITTEN:
            raise ValueError(
                f"render() writes {', '.join(DRAWN + WRITTEN)}, as the suffix says; "
                f"got {path.name!r}."
            )
        if suffix in DRAWN:
            source = self._dot(dpi=144 if suffix == ".png" else None)
            try:
                picture = draw(source, suffix[1:])
            except GraphvizError as error:
                beside = path.with_suffix(".dot")
                beside.write_text(self.to_dot(), encoding="utf-8")
                raise GraphvizError(f"{error}\nSaved {beside} instead of {path}:\n{self}") from None
            path.write_bytes(picture)
        else:
            write = {".dot": self.to_dot, ".json": self._json, ".txt": self.__str__}[suffix]
            path.write_text(write() + "\n", encoding="utf-8")
        return path

    def _json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1)

    def show(self) -> None:
        """Show the picture: in the notebook, or in a browser; as text where nothing can draw it."""
        ipython = sys.modules.get("IPython")
        if ipython is not None and ipython.get_ipython() is not None:
            import_module("IPython.display").display(self)
            return
        try:
            picture = self.to_svg()
        except GraphvizError as error:
            print(f"{self}\n{error}")
            return
        path = Path(tempfile.mkdtemp(prefix="minigrad-")) / "graph.svg"
        path.write_text(picture, encoding="utf-8")
        if not webbrowser.open(path.as_uri()):
            print(f"the picture is in {path}")

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """For notebooks: the text always, the picture where it can be drawn; never an error."""
        bundle = {"text/plain": str(self)}
        try:
            bundle["image/svg+xml"] = self.to_svg()
        except (GraphvizError, OSError) as error:
            bundle["text/plain"] += f"\n\n{error}"
        return {
            kind: data
            for kind, data in bundle.items()
            if (not include or kind in include) and (not exclude or kind not in exclude)
        }


class Graph(Picture):
    """A graph, read off the tape once: it holds no tensor and does not change any more.

    In a notebook it shows itself; ``print`` gives an indented text, ``render`` writes a file.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        direction: str = "TB",
        theme: str = "light",
        title: str | None = None,
        depth: int | None = None,
        max_nodes: int = 400,
    ) -> None:
        self.trace = trace  #: the whole tape
        self.shown = shrink(trace, depth, max_nodes)  #: what pictures and text show of it
        self.direction, self.theme = direction, theme
        model = trace.facts.model
        self.title = title if title is not None else f"{model}  ·  forward" if model else "forward"

    # ---- as text and data --------------------------------------------------------------------

    def __str__(self) -> str:
        return text.tree(self.shown, self.title)

    def __repr__(self) -> str:
        return f"<Graph {self.title!r}: {', '.join(text.headline(self.shown.facts))}>"

    def to_dict(self) -> dict[str, Any]:
        """The whole tape, as JSON has it: ``facts``, ``nodes``, ``edges``, ``scopes`` (modules)."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self.trace)))
        return {"schema": SCHEMA, "title": self.title, **data}

    def _dot(self, dpi: int | None = None) -> str:
        return dot.write(
            self.shown, self.title, theme=self.theme, direction=self.direction, dpi=dpi
        )
