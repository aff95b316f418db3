"""Picture: what can be looked at as a picture, as a text, or as data. Graph: what ``viz.graph``
returns.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import webbrowser
from collections.abc import Container, Iterator
from copy import copy
from dataclasses import asdict, replace
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from minigrad.viz import backward as back
from minigrad.viz import dot, html, ladder, mermaid, notebook, query, second, text
from minigrad.viz.diff import compare
from minigrad.viz.opened import Selector
from minigrad.viz.render import GraphvizError, draw
from minigrad.viz.shrink import depths_of
from minigrad.viz.style import AUTO, Theme, follow
from minigrad.viz.trace import Node, Scope, Trace
from minigrad.viz.view import view

SCHEMA = 2  #: of ``to_dict``; grows when a field changes its meaning
DRAWN = (".svg", ".png", ".pdf")
PAGE = (".html",)
WRITTEN = (".dot", ".json", ".txt", ".mmd")


class Picture:
    """A drawing that Graphviz makes, with a text for where there is none.

    In a notebook it shows itself; ``print`` gives the text, ``render`` writes a file. A subclass
    says the text (``__str__``), the data (``to_dict``) and the DOT (``_dot``).
    """

    title: str
    drawn: tuple[str, ...] = DRAWN  #: the suffixes of files that need Graphviz

    def to_dict(self) -> dict[str, Any]:
        """What is shown, as JSON has it."""
        raise NotImplementedError(f"{type(self).__name__} has no to_dict(); define one.")

    def _dot(self, dpi: int | None = None) -> str:
        raise NotImplementedError(f"{type(self).__name__} has no _dot(); define one.")

    def _draw(self, form: str, dpi: int | None = None) -> bytes:
        """The picture in a format of Graphviz."""
        return draw(self._dot(dpi), form)

    def to_dot(self) -> str:
        """DOT, the language of Graphviz; needs no Graphviz."""
        return self._dot()

    def to_mermaid(self) -> str:
        """A Mermaid flowchart, which Markdown pages draw; needs no Graphviz."""
        raise NotImplementedError(f"{type(self).__name__} has no Mermaid form; use .svg or .txt.")

    def to_svg(self) -> str:
        """The picture as SVG. Raises GraphvizError where nothing can draw it."""
        svg = self._draw("svg").decode()
        label = escape(dot.clean(self.title, 200))
        said = f"<title>{label}</title>\n<desc>{escape(self._description())}</desc>"
        svg = svg[svg.index("<svg") :].replace("<title>minigrad</title>", said, 1)
        return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)

    def _description(self) -> str:
        """A sentence for who cannot see the picture."""
        return str(self).split("\n")[0]

    # ---- as a picture ------------------------------------------------------------------------

    def render(self, path: str | os.PathLike[str]) -> Path:
        """Write a file; its suffix decides: .svg, .png, .pdf, .dot, .json, .txt, .mmd; of a graph
        .html, too.

        Raises:
            ValueError: another suffix.
            FileNotFoundError: there is no such folder.
            GraphvizError: nothing can draw; the DOT text is then saved beside, under the same name.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in self.drawn + WRITTEN:
            raise ValueError(
                f"render() writes {', '.join(self.drawn + WRITTEN)}, as the suffix says; "
                f"got {path.name!r}."
            )
        if not path.parent.is_dir():
            raise FileNotFoundError(
                f"render() writes {path.name}, but there is no folder {str(path.parent)!r}; make "
                "it first, as by Path.mkdir(parents=True)."
            )
        if suffix in self.drawn:
            try:
                picture = self._drawn(suffix)
            except GraphvizError as error:
                beside = path.with_suffix(".dot")
                beside.write_text(self.to_dot(), encoding="utf-8")
                raise GraphvizError(f"{error}\nSaved {beside} instead of {path}:\n{self}") from None
            path.write_bytes(picture)
        else:
            write = {
                ".dot": self.to_dot,
                ".json": self._json,
                ".txt": self.__str__,
                ".mmd": self.to_mermaid,
            }[suffix]
            path.write_text(write() + "\n", encoding="utf-8", errors="replace")
        return path

    def _drawn(self, suffix: str) -> bytes:
        """The content of a file that needs Graphviz."""
        return self._draw(suffix[1:], dpi=144 if suffix == ".png" else None)

    def _json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1)

    def show(self) -> None:
        """Show the picture: in the notebook, or in a browser; as text where nothing can draw it."""
        ipython = sys.modules.get("IPython")
        if ipython is not None and ipython.get_ipython() is not None:
            import_module("IPython.display").display(self)
            return
        suffix = PAGE[0] if PAGE[0] in self.drawn else ".svg"
        try:
            picture = self._drawn(suffix)
        except GraphvizError as error:
            print(f"{self}\n{error}")
            return
        path = Path(tempfile.mkdtemp(prefix="minigrad-")) / f"graph{suffix}"
        path.write_bytes(picture)
        if not webbrowser.open(path.as_uri()):
            print(f"the picture is in {path}")

    def _sizes(self) -> Iterator[Picture]:
        """The picture, and what is shown where it is too large for the cell of a notebook."""
        yield self

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """For notebooks: the text always, a page or picture as ``set_jupyter`` says; never an
        error."""
        bundle = notebook.bundle(self)
        return {
            kind: data
            for kind, data in bundle.items()
            if (not include or kind in include) and (not exclude or kind not in exclude)
        }


#: What ``backward`` draws.
TITLES = {
    False: "forward",
    True: "forward + backward",
    "only": "backward",
    2: "forward, gradient + backward",
}


class Graph(Picture):
    """A graph, read off the tape once: it holds no tensor and does not change any more.

    In a notebook it shows itself; ``print`` gives an indented text, ``render`` writes a file.
    """

    drawn = DRAWN + PAGE

    def __init__(
        self,
        trace: Trace,
        *,
        direction: str = "TB",
        theme: str = "light",
        title: str | None = None,
        expand: Selector = (),
        collapse: Any = (),
        roll: bool = True,
        depth: int | None = None,
        max_nodes: int = 400,
        backward: Any = False,
    ) -> None:
        self.depth, self.max_nodes, self.backward = depth, max_nodes, backward
        self._options = {"open_ops": expand, "close_modules": collapse, "rolled": roll}
        if backward == 2 and backward is not True:
            trace = second.gather(trace)
        self._tape = trace
        self.trace = back.extend(trace) if backward else trace  #: the whole tape
        self.shown = self._at(depth)  #: what pictures and text show of it
        self.direction, self.theme = direction, theme
        what = TITLES[backward]
        model = trace.facts.model
        self.title = title if title is not None else f"{model}  ·  {what}" if model else what

    # ---- questions ---------------------------------------------------------------------------

    def find(
        self,
        *,
        op: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        module: str | None = None,
    ) -> list[Node]:
        """The nodes of the whole tape that fit everything asked.

        Args:
            op: the name of an op, ``"batch_norm"``.
            kind: ``"op"``, ``"input"``, ``"parameter"``, ``"buffer"`` or ``"output"``.
            name: of data, a parameter, a buffer or an output.
            module: the path of the module they stand in.
        """
        return query.find(self._tape, op=op, kind=kind, name=name, module=module)

    def __getitem__(self, key: str) -> Node | Scope:
        """A module by its path, data, a parameter or an output by its name, an op by its id."""
        return query.item(self._tape, key)

    def subgraph(self, path: str) -> Graph:
        """What a module recorded, alone: the values that enter are data, those that leave outputs.

        Raises:
            KeyError: no module has that path.
        """
        return self._of(query.subgraph(self._tape, path), f"{path}  ·  of {self.title}")

    def path(self, start: Any, end: Any) -> Graph:
        """Every op between two values, each a tensor, a name, a module's path (what it puts out),
        an op's id or a Node.

        Raises:
            KeyError: one of them is not in the graph.
            ValueError: no value goes from the first to the second.
        """
        first, last = (query.node_of(self._tape, end) for end in (start, end))
        names = {n.id: n.name for n in self._tape.nodes}
        title = f"from {names[first]} to {names[last]}  ·  of {self.title}"
        return self._of(query.path(self._tape, first, last), title)

    def diff(self, other: Graph) -> Graph:
        """Both graphs in one: what only this one has (removed), what only the other has (added),
        and what differs (changed), each with a sign; such as train mode against eval mode.
        """
        if not isinstance(other, Graph):
            raise TypeError(f"diff() compares with another graph, got {type(other).__name__}.")
        both = compare(self._tape, other._tape)
        one, two = (graph.title for graph in (self, other))
        if one == two and self.trace.facts.mode != other.trace.facts.mode:
            one, two = f"{one}, {self.trace.facts.mode}", other.trace.facts.mode
        return self._of(both, one if one == two else f"{one}  ⇢  {two}", roll=False)

    def _of(self, part: Trace, title: str, roll: bool = True) -> Graph:
        """A graph of a part of this one, or of more than it, shown in the same way."""
        return Graph(part, direction=self.direction, theme=self.theme, title=title, roll=roll)

    # ---- as text and data --------------------------------------------------------------------

    def __str__(self) -> str:
        tree = text.tree(self.shown, self.title, self.backward != "only")
        return tree.encode(errors="replace").decode()  # half a character can be written nowhere

    def __repr__(self) -> str:
        return f"<Graph {self.title!r}: {', '.join(text.headline(self.shown.facts))}>"

    def to_dict(self) -> dict[str, Any]:
        """The whole tape, as JSON has it: ``facts``, ``nodes``, ``edges``, ``scopes`` (modules)."""
        trace = replace(self.trace, insides={}, places={})  # these serve expand= and path()
        data: dict[str, Any] = json.loads(json.dumps(asdict(trace)))
        del data["insides"], data["places"]
        return {"schema": SCHEMA, "title": self.title, **data}

    def to_mermaid(self) -> str:
        """A Mermaid flowchart of what is shown; needs no Graphviz."""
        theme = "light" if self.theme == "auto" else self.theme
        return mermaid.write(self.shown, self.title, theme=theme, direction=self.direction)

    def _dot(self, dpi: int | None = None) -> str:
        return self._written(self.shown, theme=self._paint(), dpi=dpi)

    def _draw(self, form: str, dpi: int | None = None) -> bytes:
        drawn = self._draw_shown(self.shown, form, theme=self._paint(), dpi=dpi)
        return follow(drawn.decode()).encode() if (self.theme, form) == ("auto", "svg") else drawn

    def _paint(self) -> str | Theme:
        """The colours to write down."""
        return AUTO if self.theme == "auto" else self.theme

    def _draw_shown(self, shown: Trace, form: str, **style: Any) -> bytes:
        """The picture of ``shown``.

        On some deeply nested ladders with many arrows that skip rows dot 2.43 gives up ("trouble in
        init_rank"); without those arrows it does not.
        """
        try:
            return draw(self._written(shown, **style), form)
        except GraphvizError as error:
            if not self.backward or "init_rank" not in str(error):
                raise
        return draw(self._written(shown, skipped=0, **style), form)

    def _written(self, shown: Trace, **style: Any) -> str:
        """The DOT of what is shown."""
        if not self.backward:
            return dot.write(shown, self.title, direction=self.direction, **style)
        return ladder.write(
            shown, self.title, direction=self.direction, alone=self.backward == "only", **style
        )

    def _at(self, depth: int | None, opened: Selector | None = None) -> Trace:
        """What is shown at a depth, and with these ops opened; by default those asked for."""
        options: dict[str, Any] = {**self._options, "depth": depth, "max_nodes": self.max_nodes}
        if opened is not None:
            options["open_ops"] = opened
        shown = view(self._tape, ladder=bool(self.backward), **options)
        return back.extend(shown) if self.backward else shown

    def _sizes(self) -> Iterator[Picture]:
        yield self
        for fewer in (100, 40, 15):
            if fewer < self.max_nodes:
                smaller = copy(self)
                smaller.max_nodes = fewer
                smaller.shown = smaller._at(self.depth)
                yield smaller

    # ---- as a page ---------------------------------------------------------------------------

    def _drawn(self, suffix: str) -> bytes:
        return self.to_html().encode() if suffix in PAGE else super()._drawn(suffix)

    def to_html(self, *, most_bytes: int = html.MOST_BYTES) -> str:
        """A page to look around in, as one file: pan, zoom, search, switches, a panel for a box.

        Args:
            most_bytes: how large its pictures may be together, one for each position of the
                switches; the page says which were left out.
        Raises:
            GraphvizError: nothing can draw.
        """
        states, left_out = html.fitting(self._states(), self._inline, most_bytes)
        records, told = html.table(states)
        data = {
            "title": self.title,
            "facts": " · ".join(text.headline(self.trace.facts)),
            "dtype": self.trace.facts.dtype,
            "records": records,
            "states": told,
            "left_out": left_out,
        }
        return html.write(
            "graph",
            title=self.title,
            states=states,
            data=data,
            theme="dark" if self.theme == "dark" else "auto",
            text=str(self),
        )

    def _states(self) -> Iterator[html.State]:
        """The positions of a page's switches, first what this graph shows, then the coarse ones."""
        deepest = max(depths_of(self._tape).values(), default=0)
        asked = deepest + 1 if self.depth is None else min(self.depth, deepest + 1)
        own = self._options["open_ops"]
        named = own if own in ("", "all") else "as asked" if own else ""
        openings = {named: own, "": (), **({"all": "all"} if self._tape.insides else {})}
        for opened, which in openings.items():
            yield self._state(asked, deepest, opened, which)
            for depth in range(1, deepest + 2 if opened != "all" else 1):
                if depth != asked:
                    yield self._state(depth, deepest, opened, which)

    def _state(self, depth: int, deepest: int, opened: str, which: Selector) -> html.State:
        """One position of the switches."""
        if depth > deepest:
            return html.State("all", opened, self._at(None, which))
        return html.State(str(depth), opened, self._at(depth, which))

    def _inline(self, shown: Trace) -> str:
        """A picture of ``shown`` for a page."""
        svg = self._draw_shown(shown, "svg", theme=html.STAND_INS, links=True).decode()
        return html.inline(svg, self.title, html.describe(shown))
