"""Pictures in notebooks: the notebook of the docs is run, and what its cells hold is opened."""

import json
import re
import shutil
import sys
from html import escape
from pathlib import Path
from types import SimpleNamespace

import pytest

import minigrad as mg
from minigrad import nn, viz
from minigrad.viz import notebook
from minigrad.viz.picture import Picture
from tests.test_pages import chromium, deep, graph, loss_of, network, visit  # noqa: F401

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "graphs.ipynb"

pytestmark = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not on the PATH"
)


@pytest.fixture(autouse=True)
def _html():
    yield
    viz.set_jupyter("html")


def bytes_of(bundle):
    return sum(len(data.encode()) for data in bundle.values())


# ---- one cell --------------------------------------------------------------------------------


def test_a_cell_holds_text_picture_and_page():
    g = graph()
    bundle = g._repr_mimebundle_()
    assert list(bundle) == ["text/plain", "text/html", "image/svg+xml"]
    assert bundle["text/plain"] == str(g)
    page = bundle["text/html"]
    assert page.startswith("<iframe srcdoc='<!doctype html>") and "sandbox='allow-scripts'" in page
    assert " id=" not in bundle["image/svg+xml"]
    assert bytes_of(bundle) < 150_000
    assert g._repr_mimebundle_() == bundle
    assert list(g._repr_mimebundle_(include=["image/svg+xml"])) == ["image/svg+xml"]


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("html", ["text/plain", "text/html", "image/svg+xml"]),
        ("svg", ["text/plain", "image/svg+xml"]),
        ("png", ["text/plain", "image/png"]),
        ("text", ["text/plain"]),
    ],
)
def test_the_kind_can_be_chosen(kind, types):
    viz.set_jupyter(kind)
    assert list(graph()._repr_mimebundle_()) == types
    model = network()
    assert list(viz.step(loss_of(model), model)._repr_mimebundle_()) == types
    if kind == "png":
        assert graph()._repr_mimebundle_()["image/png"].startswith("iVBOR")


def test_a_kind_that_is_none():
    with pytest.raises(ValueError, match="html, svg, png, text; got 'gif'"):
        viz.set_jupyter("gif")


def test_a_picture_without_a_page_is_an_svg():
    opened = mg.inspect.trace(nn.BatchNorm1d(2), mg.randn(4, 2), mg.randn(4, 2)).picture()
    assert isinstance(opened, Picture)
    assert list(opened._repr_mimebundle_()) == ["text/plain", "image/svg+xml"]


def test_a_large_graph_is_made_smaller_until_it_fits():
    g = deep(150)
    bundle = g._repr_mimebundle_()
    assert "text/html" in bundle and bytes_of(bundle) <= notebook.CELL
    assert bundle["text/plain"] == str(g)  # which is whole
    for kind in ("svg", "png"):
        viz.set_jupyter(kind)
        assert bytes_of(g._repr_mimebundle_()) <= notebook.CELL


def test_what_never_fits_is_said_to_be_too_large(monkeypatch):
    g = graph()
    monkeypatch.setattr(notebook, "CELL", len(str(g)) + 1000)
    bundle = g._repr_mimebundle_()
    assert list(bundle) == ["text/plain"]
    assert bundle["text/plain"].startswith(str(g)) and 'render("net.html")' in bundle["text/plain"]


def test_a_stepper_that_is_not_too_small_for_a_cell_stays_within_it():
    model = network(fused=False)
    page = viz.step(loss_of(model), model)
    assert bytes_of(page._repr_mimebundle_()) < notebook.CELL


def test_where_a_notebook_is_not_trusted_the_text_is_left():
    """As JupyterLab sanitizes: no frames, no styles and what stands in them, no attributes."""
    g = graph()
    page = g._repr_mimebundle_()["text/html"]
    left = re.sub(r"<iframe.*?</iframe>|<style.*?</style>", "", page, flags=re.S)
    assert left.strip() == f"<pre class='minigrad-text'>{escape(str(g))}</pre>"


def test_show_displays_in_a_notebook(monkeypatch):
    shown = []
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: object()))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=shown.append))
    model = network()
    page = viz.step(loss_of(model), model)
    page.show()
    assert shown == [page]


# ---- the notebook of the docs ----------------------------------------------------------------


@pytest.fixture(scope="module")
def executed():
    """The notebook of the docs, run from beginning to end."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    read = nbformat.read(NOTEBOOK, as_version=4)
    client.NotebookClient(read, timeout=120, kernel_name="python3").execute(cwd=NOTEBOOK.parent)
    return read


def test_the_notebook_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(c.get("outputs", []) == [] for c in cells)
    assert all(c.get("execution_count") is None for c in cells)


def test_the_cells_of_the_notebook_show_pages_pictures_and_text(executed):
    shown = [o["data"] for c in executed.cells for o in c.get("outputs", []) if "data" in o]
    kinds = ["text/html" in data for data in shown]
    assert kinds.count(True) == 4 and "image/png" in shown[-1]
    for data in shown:
        assert data["text/plain"].strip()
        assert len(json.dumps(data).encode()) < notebook.CELL
    assert all(c["execution_count"] for c in executed.cells if c["cell_type"] == "code")


def test_the_notebook_as_a_web_page(executed, visit):  # noqa: F811
    nbconvert = pytest.importorskip("nbconvert", reason="nbconvert is not installed")
    body, _ = nbconvert.HTMLExporter(template_name="basic").from_notebook_node(executed)
    page = visit(f"<!doctype html><meta charset='utf-8'><body>{body}", size=(1100, 900))
    frames = page.frames[1:]
    assert len(frames) == 4
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(set(ids)) == len(ids)
    for frame in frames:
        frame.wait_for_selector("#stage [data-node=op0]")
        frame.locator("[data-node=op1]").click()
        assert frame.locator("#panel h2").inner_text() != ""
    assert frames[0].locator("#panel h2").inner_text() == "batch_norm"
    assert frames[2].locator("#count").inner_text().startswith("2 / ")
    assert page.locator("pre.minigrad-text").first.is_hidden()


def test_the_wheel_scrolls_the_notebook_until_a_picture_was_clicked(visit):  # noqa: F811
    page = visit(
        f"<!doctype html><body style='height:3000px'>{graph()._repr_mimebundle_()['text/html']}"
    )
    frame = page.frames[1]
    frame.wait_for_selector("[data-node=op0]")
    width = "document.querySelector('[data-node=op0]').getBoundingClientRect().width"
    before = frame.evaluate(width)
    page.mouse.move(300, 200)
    page.mouse.wheel(0, 150)
    page.wait_for_timeout(200)
    assert frame.evaluate(width) == before and page.evaluate("scrollY") > 0
    page.evaluate("scrollTo(0, 0)")
    page.mouse.click(60, 200)
    page.mouse.wheel(0, -150)
    page.wait_for_timeout(200)
    assert frame.evaluate(width) > before and page.evaluate("scrollY") == 0
