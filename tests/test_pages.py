"""The interactive pages in a browser: what is clicked, typed and turned, as a reader sees it."""

import json
import re
import shutil
from collections import OrderedDict

import pytest

import minigrad as mg
from minigrad import nn, viz
from minigrad.nn import functional as F
from minigrad.viz import html
from minigrad.viz import picture as pictures
from minigrad.viz.style import THEMES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

pytestmark = pytest.mark.skipif(
    shutil.which("dot") is None, reason="the dot program of Graphviz is not on the PATH"
)

WIDE, NARROW = (1280, 860), (480, 800)


def network(**norm):
    mg.manual_seed(0)
    layers = {
        "fc1": nn.Linear(4, 8),
        "bn1": nn.BatchNorm1d(8, **norm),
        "act": nn.ReLU(),
        "fc2": nn.Linear(8, 3),
    }
    return nn.Sequential(OrderedDict(layers))


def loss_of(model):
    return F.cross_entropy(model(mg.randn(6, 4)), mg.tensor([0, 1, 2, 0, 1, 2]))


def graph(**norm):
    model = network(**norm)
    return viz.graph(loss_of(model), model, title="A small network")


def deep(blocks):
    mg.manual_seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = nn.Linear(4, 4), nn.Tanh()

        def forward(self, x):
            return self.act(self.fc(x)) + x

    model = nn.Sequential(*[Block() for _ in range(blocks)])
    return viz.graph(model(mg.randn(2, 4)).sum(), model, roll=False)


@pytest.fixture(scope="module")
def chromium():
    """A browser for the tests of this file."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not on the PATH")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """``visit(page)`` opens a page; in the end nothing may have gone wrong, or over the network."""
    contexts, wrong = [], []

    def visit(text, at="", *, scheme="light", motion="reduce", size=WIDE):
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(text, encoding="utf-8")
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            reduced_motion=motion,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda m: wrong.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: wrong.append(f"error: {e}"))
        page.on(
            "request",
            lambda r: None if r.url.startswith(path.as_uri()) else wrong.append(r.url[:200]),
        )
        page.goto(path.as_uri() + at)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def until(page, expression):
    """Wait for something to become true."""
    for _ in range(500):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never true: {expression}")


def box(page, node):
    """Where a box is on the screen."""
    return page.locator(f"#stage [data-node={node}]").bounding_box()


def style(page, node, name, shape="rect, polygon, path"):
    """The computed style of the first shape of a box that has a line."""
    return page.evaluate(
        """([node, name, shape]) => {
            const box = document.querySelector(`#stage [data-node="${node}"]`);
            const shapes = box.querySelectorAll(shape);
            const drawn = [...shapes].find((s) => s.getAttribute("stroke") !== "transparent");
            return getComputedStyle(drawn)[name];
        }""",
        [node, name, shape],
    )


def rgb(color):
    return f"rgb({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))})"


LIGHT, DARK = THEMES["light"], THEMES["dark"]


# ---- the file --------------------------------------------------------------------------------


def test_a_page_is_one_file_and_the_same_bytes_each_time(tmp_path):
    first, second = graph().to_html(), graph().to_html()
    assert first == second
    assert graph().render(tmp_path / "net.html").read_text(encoding="utf-8") == first
    assert re.findall(r"<(?:link|img|iframe|object)|src=|url\(|@import", first) == []
    assert set(re.findall(r"https?://[^\s\"')]+", first)) <= {"http://www.w3.org/2000/svg"}
    assert len(first.encode()) < 150_000


def drawn(page):
    """The pictures in a page."""
    return re.findall(r'<svg viewBox="[\d.]+ .*?</svg>', page, re.S)


def test_the_pictures_of_a_page_have_no_ids_and_name_every_box():
    g = graph()
    page = g.to_html()
    found = drawn(page)
    assert len(found) == 3  # depth 1, all, and all opened
    for picture in found:
        assert " id=" not in picture and 'role="group"' in picture
        assert "<title>A small network</title>" in picture and "<desc>" in picture
    named = set(re.findall(r'data-node="(\w+)"', found[0]))
    assert named == {n.id for n in g.shown.nodes}
    ends = {end for pair in re.findall(r'data-edge="(\w+) (\w+)"', found[0]) for end in pair}
    assert ends <= named


def test_all_colours_of_a_page_are_variables():
    """So that a picture is drawn once for both themes."""
    page = deep(2).to_html()
    for picture in drawn(page):
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', picture))
        assert all(c.startswith("var(--") or c in ("none", "transparent") for c in colours)
    for theme in THEMES.values():
        assert all(f"--{name}:{c}" in page for name, c in html.variables(theme).items())


def test_rounded_boxes_are_rectangles_of_the_same_size():
    picture = graph()._inline(graph().shown)
    assert picture.count("<rect") >= 12
    box = {k: float(v) for k, v in re.findall(r' (x|y|width|height|rx)="([-\d.]+)"', re.search(
        r'data-node="op0".*?(<rect[^>]*>)', picture, re.S)[1])}  # fmt: skip
    path = re.search(r'id="op0".*? d="([^"]+)"', graph().to_svg(), re.S)[1]
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", path)]
    assert box["x"] == min(numbers[::2]) and box["y"] == min(numbers[1::2])
    assert box["width"] == pytest.approx(max(numbers[::2]) - box["x"])
    assert box["height"] == pytest.approx(max(numbers[1::2]) - box["y"])
    assert box["rx"] == 12


def test_what_is_too_much_for_a_page_is_left_out_and_said():
    g = deep(30)
    assert len(g.to_html(most_bytes=30_000)) < len(g.to_html())
    data = page_data(g.to_html(most_bytes=30_000))
    assert [s["depth"] for s in data["states"]] == ["all"]
    assert data["left_out"] == [
        "depth 1",
        "depth 2",
        "every module open, fused ops opened",
    ]


def page_data(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def test_without_graphviz_a_page_is_the_dot_text(monkeypatch, tmp_path):
    g = graph()
    monkeypatch.setattr(viz.render, "which", lambda name: None)
    monkeypatch.setattr(viz.render, "find_spec", lambda name: None)
    with pytest.raises(viz.GraphvizError, match="Saved"):
        g.render(tmp_path / "net.html")
    assert [p.name for p in tmp_path.iterdir()] == ["net.dot"]


def test_statistics_in_a_line():
    said = {"norm": 2.0, "mean": 0.5, "std": 1.25, "min": -1.0, "max": 3.0, "zeros": 0.25, "nan": 2}
    assert html.figures(said) == "norm 2, mean 0.5, std 1.25, -1 to 3, 25% zero, 2 nan"


# ---- looking around --------------------------------------------------------------------------


def test_a_click_chooses_a_box(visit):
    page = visit(graph().to_html())
    assert "Click a box" in page.inner_text("#panel")
    assert style(page, "op1", "strokeWidth") == "1.3px"
    page.click("[data-node=op1]")
    assert style(page, "op1", "stroke") == rgb(LIGHT.line["gradient"])
    assert style(page, "op1", "strokeWidth") == "3.5px"
    said = page.inner_text("#panel")
    for text in ("batch_norm", "y = γ (x - μ) / √(σ² + ε) + β", "dβ = Σ dy", "bn1: BatchNorm1d(8)",
                 "(6, 8)", "float32", "eps", "1e-05", "fused", "running_mean"):  # fmt: skip
        assert text in said
    assert page.url.endswith("#node=op1")
    page.mouse.click(box(page, "op1")["x"] - 300, box(page, "op1")["y"])  # beside it
    assert style(page, "op1", "strokeWidth") == "1.3px"
    assert "#" not in page.url


def test_the_leaves_of_a_stack_are_boxes_of_their_own(visit):
    page = visit(graph().to_html())
    page.click("[data-node=parameter3]")
    said = page.inner_text("#panel")
    assert said.startswith("bn1.bias") and "(8,)" in said and "parameter" in said
    assert style(page, "parameter3", "stroke") == rgb(LIGHT.line["gradient"])
    assert style(page, "parameter2", "stroke") == rgb(LIGHT.line["parameter"])


def test_links_go_to_the_boxes_before_and_after(visit):
    page = visit(graph().to_html(), "#node=op1")
    assert page.inner_text("#inputs").split("\n")[0].startswith("linear")
    assert "parameter bn1.weight" in page.inner_text("#inputs")
    page.click("#outputs [data-to=op2]")
    assert page.inner_text("#panel h2") == "relu"
    page.click("#inputs [data-to=op1]")
    assert page.inner_text("#panel h2") == "batch_norm"


def test_buttons_keys_and_wheel_zoom(visit):
    page = visit(graph().to_html())
    start = box(page, "op1")
    page.click("#in")
    assert box(page, "op1")["width"] == pytest.approx(1.25 * start["width"], rel=0.02)
    page.click("#out")
    assert box(page, "op1") == pytest.approx(start, abs=0.5)
    page.keyboard.press("+")
    assert box(page, "op1")["width"] == pytest.approx(1.25 * start["width"], rel=0.02)
    page.keyboard.press("0")
    stage = page.locator("#stage").bounding_box()
    whole = page.locator("#stage svg > g").bounding_box()
    assert whole["x"] >= stage["x"] and whole["y"] >= stage["y"] - 1
    assert whole["y"] + whole["height"] <= stage["y"] + stage["height"] + 1
    before = box(page, "op0")
    corner = (before["x"], before["y"])
    page.mouse.move(*corner)
    page.mouse.wheel(0, -400)
    after = box(page, "op0")
    assert after["width"] > 1.3 * before["width"]
    assert (after["x"], after["y"]) == pytest.approx(corner, abs=1.5)  # what is pointed at stays


def test_dragging_and_arrow_keys_move_and_choose_nothing(visit):
    page = visit(graph().to_html())
    start = box(page, "op1")
    at = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    page.mouse.move(*at)
    page.mouse.down()
    page.mouse.move(at[0] + 40, at[1] - 30, steps=4)
    page.mouse.move(at[0] + 90, at[1] - 70, steps=4)
    page.mouse.up()
    moved = box(page, "op1")
    assert (moved["x"] - start["x"], moved["y"] - start["y"]) == pytest.approx((90, -70), abs=1)
    assert "Click a box" in page.inner_text("#panel")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert box(page, "op1")["x"] == pytest.approx(
        moved["x"] + 60, abs=1.5
    )  # its line is thicker now
    assert box(page, "op1")["y"] == pytest.approx(moved["y"] - 60, abs=1.5)


def test_tab_goes_through_the_boxes_in_the_order_of_execution(visit):
    g = graph()
    page = visit(g.to_html())
    page.focus("#themes button:last-of-type")
    order = []
    for _ in g.shown.nodes:
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.dataset.node"))
    assert order == [n.id for n in g.shown.nodes]
    page.focus("[data-node=op2]")
    page.keyboard.press("Enter")
    assert page.inner_text("#panel h2") == "relu"
    label = page.get_attribute("[data-node=op2]", "aria-label")
    assert label == "relu, (6, 8), y = max(x, 0)"
    page.keyboard.press("Escape")
    assert "Click a box" in page.inner_text("#panel")


def test_a_tooltip_says_what_a_box_does(visit):
    page = visit(graph().to_html())
    assert page.is_hidden("#tip")
    page.hover("[data-node=op1]")
    tip = page.inner_text("#tip")
    assert "batch_norm" in tip and "backward: dx = γ/σ" in tip and "eps = 1e-05" in tip
    place, shown = page.locator("#tip").bounding_box(), box(page, "op1")
    assert place["x"] >= 0 and place["x"] + place["width"] <= WIDE[0]
    assert place["y"] + place["height"] <= shown["y"] or place["y"] >= shown["y"] + shown["height"]
    page.mouse.move(5, 400)
    assert page.is_hidden("#tip")


def test_search_shows_what_it_finds_and_goes_there(visit):
    page = visit(graph().to_html())
    page.keyboard.press("/")
    page.keyboard.type("linear")
    assert page.inner_text("#found") == "1 of 6"  # two ops, and what belongs to them
    page.fill("#search", "linear y =")
    assert page.inner_text("#found") == "1 of 2"
    assert style(page, "op0", "stroke") == rgb(LIGHT.mark)
    assert style(page, "op0", "fillOpacity") == "1"
    assert style(page, "op1", "fillOpacity") == "0.25"
    page.keyboard.press("Enter")
    assert page.inner_text("#panel h2") == "linear" and page.url.endswith("#node=op0")
    page.keyboard.press("Enter")
    assert page.inner_text("#found") == "2 of 2" and page.url.endswith("#node=op3")
    page.keyboard.press("Shift+Enter")
    assert page.url.endswith("#node=op0")
    page.fill("#search", "(6,3)")
    page.keyboard.press("Enter")
    assert page.inner_text("#panel h2") == "linear" and page.url.endswith("#node=op3")
    middle = box(page, "op3")
    assert middle["x"] + middle["width"] / 2 == pytest.approx(450, abs=2)
    page.fill("#search", "no such thing")
    assert page.inner_text("#found") == "none"
    page.keyboard.press("Escape")
    assert style(page, "op1", "fillOpacity") == "1"


def test_depth_is_a_switch_and_back_is_as_before(visit):
    page = visit(graph().to_html())
    assert page.locator("#depths button").all_inner_texts() == ["1", "all"]
    before = {n: box(page, n) for n in ("op0", "op4", "output0")}
    page.click("#depths [data-value='1']")
    assert page.locator("[data-node=module2]").count() == 1
    assert page.locator("[data-node=op1]").count() == 0
    assert page.url.endswith("#depth=1")
    page.click("[data-node=module2]")
    assert "BatchNorm1d(8)" in page.inner_text("#panel") and "1 op" in page.inner_text("#panel")
    page.keyboard.press("Escape")
    page.click("#depths [data-value='all']")
    assert {n: box(page, n) for n in before} == before


def test_what_is_chosen_stays_in_its_place_when_the_depth_changes(visit):
    page = visit(graph().to_html(), "#node=op4")
    before = box(page, "op4")
    page.click("#depths [data-value='1']")
    after = box(page, "op4")
    assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=2)
    assert page.url.endswith("#depth=1&node=op4")


def test_fused_operations_open_and_close_as_before(visit):
    page = visit(graph().to_html())
    assert page.locator("#openings button").all_inner_texts() == ["fused", "opened"]
    before = {n: box(page, n) for n in ("op1", "op4", "output0")}
    page.click("#openings [data-value=all]")
    assert page.locator("[data-node=op1]").count() == 0 and page.url.endswith("#opened=all")
    page.focus("[data-node=op1_6]")
    page.keyboard.press("Enter")
    said = page.inner_text("#panel")
    assert "x̂ = c / s" in said and "dc += dx̂ / s" in said and "bn1.batch_norm.normalise" in said
    assert unreadable(page) == [] and page.evaluate(INSIDE) == []
    page.keyboard.press("Escape")
    page.click("#openings [data-value='']")
    assert {n: box(page, n) for n in before} == before


def test_what_somebody_opened_is_shown_first(visit):
    model = network()
    page = visit(viz.graph(loss_of(model), model, expand="batch_norm").to_html())
    assert page.locator("#openings button").all_inner_texts() == ["as asked", "fused", "opened"]
    assert page.locator("[data-node=op1_6]").count() == page.locator("[data-node=op0]").count() == 1


def test_an_address_says_what_is_shown(visit):
    page = visit(deep(3).to_html(), "#depth=1&node=module1")
    assert page.get_attribute("#depths [data-value='1']", "aria-pressed") == "true"
    assert "module" in page.inner_text("#panel") and "(3 ops)" not in page.inner_text("#panel")
    assert page.inner_text("#panel h2") == "0"
    page.evaluate("location.hash = '#depth=all&node=op2'")
    until(page, "document.querySelector('#panel h2')?.textContent === 'add'")
    page.evaluate("location.hash = '#depth=99&node=nothing'")
    until(page, "document.querySelector('#panel h1') !== null")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_that_of_the_system_until_somebody_chooses(visit, scheme):
    page = visit(graph().to_html(), scheme=scheme)
    themes = {"auto": scheme, "light": "light", "dark": "dark"}
    for button in ("auto", "dark", "light", "auto"):
        page.click(f"#themes [data-value={button}]")
        theme = THEMES[themes[button]]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == rgb(theme.page)
        assert page.evaluate("getComputedStyle(panel).backgroundColor") == rgb(theme.fill["module"])
        assert style(page, "op1", "fill") == rgb(theme.fill["op"])
        assert style(page, "parameter0", "fill") == rgb(theme.fill["parameter"])


def test_a_dark_graph_makes_a_dark_page(visit):
    model = network()
    page = visit(viz.graph(loss_of(model), model, theme="dark").to_html())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == rgb(DARK.page)


def test_a_large_picture_has_a_map(visit):
    page = visit(deep(30).to_html())
    assert page.is_visible("#map")
    assert page.locator("#map [data-of]").count() > 60
    start = box(page, "op0")
    place = page.locator("#map svg").bounding_box()
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] - 5)
    assert box(page, "op0")["y"] < start["y"] - 1000
    assert not visit(graph().to_html()).is_visible("#map")


def test_where_motion_is_welcome_a_box_glides_into_the_middle(visit):
    page = visit(deep(30).to_html(), motion="no-preference")
    page.fill("#search", "op90 sum")
    page.fill("#search", "sum")
    until(page, "Math.abs(boxes.get(matches[0]).getBoundingClientRect().top - 440) < 40")


def test_in_a_narrow_window_the_panel_lies_below(visit):
    page = visit(graph().to_html(), "#node=op1", size=NARROW)
    stage, panel = page.locator("#stage").bounding_box(), page.locator("#panel").bounding_box()
    assert panel["y"] >= stage["y"] + stage["height"] - 1
    assert stage["height"] > 250 and panel["height"] > 250
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&amp;'\"`${1}"]


def test_names_are_text_whatever_they_hold(visit):
    trace = graph().trace
    for node, name in zip(trace.nodes, HOSTILE * 9, strict=False):
        node.name, node.formula, node.notes, node.attributes = name, name, [name], {name: name}
    page = visit(pictures.Graph(trace, title=HOSTILE[0]).to_html())
    for i, name in enumerate(HOSTILE):
        page.evaluate(f"picked('{trace.nodes[i].id}')")
        assert page.inner_text("#panel h2") == name
    page.hover("[data-node=op1]")
    assert page.locator("img").count() == 0 and page.title() == HOSTILE[0]


# ---- reading ---------------------------------------------------------------------------------

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below, share = 1) => {
    const a = top[3] * share;
    return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)).concat(1);
  };
  const luminance = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
    const p = c[i] / 255;
    return sum + w * (p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3]) layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = [];
  const note = (text, ink, paper) => {
    const [low, high] = [luminance(over(ink, paper)), luminance(paper)].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), text]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
    if (element.closest("svg, script, template")) continue;
    note(walker.currentNode.data, parse(getComputedStyle(element).color), ground(element));
  }
  const input = document.querySelector("#search");
  note("placeholder", parse(getComputedStyle(input, "::placeholder").color), ground(input));
  const shapes = [...document.querySelectorAll("#stage svg :is(rect, polygon, path, text)")];
  const paper = ground(document.querySelector("#stage"));
  const below = [];
  for (const shape of shapes) {
    const css = getComputedStyle(shape), r = shape.getBoundingClientRect();
    if (shape.tagName !== "text") {
      if (css.fill !== "none") below.push([r, parse(css.fill), Number(css.fillOpacity)]);
      continue;
    }
    if (!shape.textContent.trim()) continue;
    const x = r.left + r.width / 2, y = r.top + r.height / 2;
    const around = ([b]) => b.left <= x && x <= b.right && b.top <= y && y <= b.bottom;
    const under = below.filter(around).reduce((c, [, fill, share]) => over(fill, c, share), paper);
    note(shape.textContent, parse(css.fill), under);
  }
  return found;
}"""


def unreadable(page):
    found = page.evaluate(CONTRAST)
    assert len(found) > 30
    return [(text, round(ratio, 2)) for ratio, text in found if ratio < 4.5]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_the_graph_can_be_read(visit, scheme):
    """A contrast of 4.5:1: WCAG 2.1, success criterion 1.4.3."""
    page = visit(graph().to_html(), scheme=scheme)
    assert unreadable(page) == []
    page.click("[data-node=op1]")
    page.hover("[data-node=parameter0]")
    assert unreadable(page) == []
    page.fill("#search", "norm")
    assert unreadable(page) == []
    page.click("#depths [data-value='1']")
    assert unreadable(page) == []


INSIDE = """() => {
  const out = [];
  for (const group of document.querySelectorAll("#stage [data-node]")) {
    const b = group.querySelector("rect, polygon, path")?.getBoundingClientRect();
    if (!b) continue; // words alone
    for (const text of group.querySelectorAll("text")) {
      const r = text.getBoundingClientRect();
      const apart = [b.left - r.left, r.right - b.right, b.top - r.top, r.bottom - b.bottom];
      if (text.textContent.trim() && Math.max(...apart) > 1) out.push([text.textContent, apart]);
    }
  }
  return out;
}"""


def test_text_stays_inside_its_box(visit):
    page = visit(graph().to_html())
    assert page.evaluate(INSIDE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_ladder_is_a_page_too(visit, scheme):
    model = network()
    x = mg.randn(6, 4)
    loss = F.cross_entropy(model(x), mg.tensor([0, 1, 2, 0, 1, 2]))
    g = viz.graph(loss, model, backward=True, values=True, grads=True)
    page = visit(g.to_html(), scheme=scheme)
    named = page.evaluate(
        "[...document.querySelectorAll('#stage [data-node]')].map((g) => g.dataset.node)"
    )
    assert sorted(named) == sorted(n.id for n in g.shown.nodes)
    assert unreadable(page) == [] and page.evaluate(INSIDE) == []
    page.click("[data-node=op1_vjp]")
    said = page.inner_text("#panel")
    assert "backward operation" in said and "dx = γ/σ" in said
    page.click("[data-node=op1]")
    said = page.inner_text("#panel")
    assert "keeps\tx, γ" in said.replace("\n\n", "\t").replace("\n", "\t")
    assert re.search(r"values\s+norm 6\.9", said) and re.search(r"gradient\s+norm 0\.", said)
    page.click("#outputs [data-to=op1_vjp]")
    assert page.inner_text("#panel h2") == "batch_norm′"
    assert unreadable(page) == []
    page.click("#depths [data-value='1']")
    assert unreadable(page) == [] and page.evaluate(INSIDE) == []


# ---- step by step ----------------------------------------------------------------------------


def stepper(**norm):
    model = network(**norm)
    return viz.step(loss_of(model), model)


def used_twice():
    a, b = mg.tensor([[1.0, -2.0]], requires_grad=True), mg.tensor([[3.0, 0.5]])
    h = a * b
    return viz.step((h * h + h).sum(), names={"a": a, "b": b})


def where(page):
    """The step and the operation that the panel shows."""
    return page.inner_text("#count"), page.inner_text("#step h2")


def tables(page):
    """The texts of the panel's tables, by the name above each."""
    return page.evaluate(
        """() => [...document.querySelectorAll("#step .array")].map((array) => [
            array.dataset.name,
            [...array.querySelectorAll("tr")].map((r) => [...r.cells].map((c) => c.textContent)),
        ])"""
    )


def test_a_stepper_is_one_small_file_and_the_same_bytes_each_time(tmp_path):
    first, second = stepper().to_html(), stepper().to_html()
    assert first == second
    assert stepper().render(tmp_path / "step.html").read_text(encoding="utf-8") == first
    assert re.findall(r"<(?:link|img|iframe|object)|src=|url\(|@import", first) == []
    assert len(first.encode()) < 200_000
    assert stepper().render(tmp_path / "step.svg").read_bytes().startswith(b"<?xml")
    opened = [s["opened"] for s in page_data(first)["states"]]
    assert opened == ["", "fc1", "bn1", "op4", "fc2"]


def test_buttons_keys_and_slider_walk_through_the_steps(visit):
    page = visit(stepper().to_html())
    assert where(page) == ("1 / 12", "linear")
    assert page.is_disabled("#prev")
    page.click("#next")
    assert where(page) == ("2 / 12", "batch_norm")
    page.keyboard.press("ArrowRight")
    assert where(page) == ("3 / 12", "relu")
    page.keyboard.press("ArrowLeft")
    page.click("#prev")
    assert where(page) == ("1 / 12", "linear")
    page.keyboard.press("End")
    assert where(page) == ("12 / 12", "every gradient")
    assert page.is_disabled("#next")
    page.keyboard.press("Home")
    assert where(page)[0] == "1 / 12"
    slider = page.locator("#slider").bounding_box()
    page.mouse.click(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
    assert where(page)[0] in ("6 / 12", "7 / 12")
    page.keyboard.press("ArrowRight")  # the slider has the focus: one step, not two
    assert where(page)[0] in ("7 / 12", "8 / 12")
    assert re.search(r"#step=[78]$", page.url)
    assert re.match(r"[78] of 12: backward, ", page.get_attribute("#slider", "aria-valuetext"))


def test_a_click_on_a_box_goes_to_its_step(visit):
    page = visit(stepper().to_html())
    page.click("[data-node=op2]")
    assert where(page) == ("3 / 12", "relu") and page.inner_text(".phase") == "forward"
    page.keyboard.press("End")
    page.click("[data-node=op2]")
    assert where(page) == ("9 / 12", "relu") and page.inner_text(".phase") == "backward"
    page.click("[data-node=parameter4]")  # fc2's weight: where its gradient comes
    assert where(page) == ("8 / 12", "linear")


def test_what_is_done_is_full_what_is_to_come_is_faded_what_is_now_is_filled(visit):
    page = visit(stepper().to_html(), "#step=9")
    assert where(page)[1] == "relu"
    assert style(page, "op2", "fill") == rgb(LIGHT.fill["gradient"])
    assert style(page, "op2", "stroke") == rgb(LIGHT.line["gradient"])
    assert style(page, "op2", "strokeWidth") == "3.5px"
    assert style(page, "op3", "fill") == rgb(LIGHT.fill["op"])
    assert style(page, "op3", "fillOpacity") == style(page, "op3", "strokeOpacity") == "1"
    assert style(page, "op1", "fillOpacity") == "0.25"
    assert style(page, "op1", "fill", "text") == rgb(html.DIM["light"])
    assert style(page, "parameter4", "fillOpacity") == "1"  # its gradient is there
    assert style(page, "parameter0", "fillOpacity") == "0.25"
    assert style(page, "input1", "fillOpacity") == "0.25"  # the target gets none
    page.keyboard.press("Home")
    assert style(page, "op0", "fill") == rgb(LIGHT.fill["input"])
    assert style(page, "op0", "stroke") == rgb(LIGHT.line["input"])
    assert style(page, "op1", "fillOpacity") == "0.25"
    page.keyboard.press("End")
    assert style(page, "parameter0", "fillOpacity") == "1"
    assert style(page, "input0", "fillOpacity") == "0.25"


def test_boxes_fill_with_the_size_of_what_they_hold(visit):
    page = visit(stepper().to_html(), "#step=2")
    badge = "[data-node={}] .badge".format
    assert page.text_content(badge("op1")).startswith("‖y‖ 6.9")
    assert page.text_content(badge("op2")) == ""
    assert style(page, "op1", "fill", ".badge") == rgb(LIGHT.line["input"])
    page.keyboard.press("End")
    assert style(page, "op1", "fill", ".badge") == rgb(LIGHT.line["gradient"])
    assert page.text_content(badge("op4")) == "dy = 1"
    assert page.text_content(badge("op0")).startswith("‖dy‖ 0.")
    assert page.evaluate(INSIDE) == []


def test_small_and_large_numbers_stay_inside_their_boxes(visit):
    x = mg.tensor([[-1.5e-7, 3e12]], requires_grad=True)
    page = visit(viz.step((x * 1.0).relu().sum() * -3e-9, names={"x": x}).to_html(), "#step=1")
    assert page.text_content("[data-node=op0] .badge") == "‖y‖ 3.00e+12"
    assert page.evaluate(INSIDE) == []
    page.keyboard.press("End")
    assert page.text_content("[data-node=op1] .badge") == "‖dy‖ 4.24e\N{MINUS SIGN}9"
    assert page.evaluate(INSIDE) == []


def test_the_tables_hold_the_numbers_of_the_step(visit):
    model = network()
    x = mg.randn(6, 4)
    h = model[1](model[0](x))
    h.retain_grad()
    loss = F.cross_entropy(model[3](model[2](h)), mg.tensor([0, 1, 2, 0, 1, 2]))
    page = visit(viz.step(loss, model).to_html(), "#step=9")
    loss.backward()

    def shown(array):
        rows = [[f"{v:.3f}".replace("-", "\N{MINUS SIGN}") for v in row] for row in array.tolist()]
        zero = "0.000"
        return [[zero if v == f"\N{MINUS SIGN}{zero}" else v for v in row] for row in rows]

    names, numbers = zip(*tables(page), strict=True)
    assert names == ("dy", "y", "dx")  # arriving, saved, leaving
    assert numbers[2] == shown(h.grad)
    assert numbers[1] == shown(h.relu())
    said = page.inner_text("#step")
    assert "dx = dy · [y > 0]" in said
    for title in ("gradient arriving", "saved values used", "gradient leaving"):
        assert title in said.lower()
    norm = float((h.grad * h.grad).sum()) ** 0.5
    assert f"(6, 8) · norm {norm:.3g}" in said
    page.keyboard.press("Home")
    assert [name for name, _ in tables(page)] == ["x", "W", "b", "y"]
    assert "kept for backward: x" in page.inner_text("#step")


def test_the_colours_of_a_table_go_two_ways(visit):
    page = visit(used_twice().to_html())
    tints = page.evaluate(
        """() => [...[...document.querySelectorAll("#step table")].at(-1).rows[0].cells].map(
            (c) => getComputedStyle(c).backgroundColor.match(/[\\d.]+/g).map(Number))"""
    )
    assert tables(page)[-1][1] == [["3.000", "\N{MINUS SIGN}1.000"]]
    high, low = tints
    assert high[0] > high[2] and low[2] > low[0]  # reddish, bluish
    assert high[3] == pytest.approx(0.45) and low[3] == pytest.approx(0.15)


def test_gradients_that_add_up_are_shown_one_by_one_and_in_all(visit):
    page = visit(used_twice().to_html())
    seen = []
    for _ in range(8):
        page.keyboard.press("ArrowRight")
        texts = page.locator("#step .array").all_inner_texts()
        seen += [t for t in texts if re.match(r"d\w \((\d of|total)", t)]
    assert [t.split(" to ")[0] for t in seen] == [
        "db (1 of 3)",
        "da (2 of 3)",
        "db (3 of 3)",
        "db (total)",
    ]
    assert "7.000" in seen[-1] and "\N{MINUS SIGN}1.000" in seen[-1]  # 2h + 1


def test_an_entry_is_checked_by_a_finite_difference(visit):
    page = visit(used_twice().to_html(), "#step=99")
    said = page.inner_text("#step .check")
    assert said.startswith("perturb a[0, 0]: finite difference 21, vjp 21")
    assert "computed anew in float64" in said
    page.click("#step td.checked >> nth=1")
    assert "perturb a[0, 1]: finite difference \N{MINUS SIGN}0.5, vjp \N{MINUS SIGN}0.5" in (
        page.inner_text("#step .check")
    )
    page.focus("#step td.checked >> nth=0")
    page.keyboard.press("Enter")
    assert "a[0, 0]" in page.inner_text("#step .check")
    asked = page.evaluate("getComputedStyle(document.querySelector('td.asked')).outlineStyle")
    assert asked == "solid"


def test_why_opens_a_fused_op_and_back_is_where_one_was(visit):
    page = visit(stepper().to_html(), "#step=10")
    assert where(page) == ("10 / 12", "batch_norm")
    page.click("#why")
    assert page.inner_text("#crumb") == "◂ the whole graph / batch_norm, opened"
    assert page.locator("#stage [data-node]").count() == 15
    assert page.inner_text(".phase") == "backward" and page.url.endswith("&open=bn1")
    arriving = tables(page)[0]
    page.keyboard.press("End")
    gradients = dict(tables(page))
    page.click("#close")
    assert where(page) == ("10 / 12", "batch_norm") and page.url.endswith("#step=10")
    assert tables(page)[0] == ["dy", arriving[1]]
    assert [dict(tables(page))[f"d{n}"] for n in "xγβ"] == [gradients[n] for n in "xγβ"]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.click("#why")
    assert where(page) == ("1 / 24", "mean") and page.inner_text(".phase") == "forward"


def test_the_values_of_an_opened_op_have_names(visit):
    page = visit(stepper().to_html(), "#step=15&open=bn1")
    assert [name for name, _ in tables(page)] == ["du", "x̂", "γ", "dx̂", "dγ"]
    assert page.locator("#step .vjp").all_inner_texts() == ["dx̂ = du · γ", "dγ = Σ du · x̂"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    heads = [text.split("\n")[0] for text in page.locator("#step .array").all_inner_texts()]
    assert "dc (1 of 3) to sub" in heads
    assert (
        page.locator("#stage [data-scope]").count() == 3
    )  # statistics, normalise, scale and shift


def test_addresses_of_steps(visit):
    page = visit(stepper().to_html(), "#step=4&open=bn1")
    assert where(page) == ("4 / 24", "mean") and "opened" in page.inner_text("#crumb")
    page.click("#close")
    assert where(page) == ("10 / 12", "batch_norm")
    page.evaluate("location.hash = '#step=3'")
    until(page, "document.querySelector('#count').value === '3 / 12'")
    page.evaluate("location.hash = '#step=x&open=nothing'")
    until(page, "document.querySelector('#count').value === '1 / 12'")


def test_searching_goes_to_the_step_of_what_is_found(visit):
    page = visit(stepper().to_html())
    page.fill("#search", "cross")
    page.keyboard.press("Enter")
    assert where(page) == ("5 / 12", "cross_entropy")


def test_play_walks_to_the_end_and_stops(visit):
    page = visit(used_twice().to_html(), "#step=8")
    count = int(page.inner_text("#count").split()[-1])
    page.evaluate(f"go({count} - 3)")
    page.keyboard.press("Space")
    assert page.get_attribute("#play", "aria-pressed") == "true"
    until(page, f"document.querySelector('#count').value === '{count} / {count}'")
    assert page.get_attribute("#play", "aria-pressed") == "false"


def test_dots_run_along_the_arrows_of_a_step_where_motion_is_welcome(visit):
    page = visit(stepper().to_html(), "#step=9", motion="no-preference")
    flight = """async () => {
        const ys = [];
        for (let i = 0; i < 15; i++) {
            ys.push(Number(document.querySelector(".particle").getAttribute("cy")));
            await new Promise(requestAnimationFrame);
        }
        return ys.slice(1).map((y, i) => Math.sign(y - ys[i])).reduce((a, b) => a + b);
    }"""
    assert page.evaluate(flight) < 0  # up: a gradient
    page.evaluate("go(2)")
    assert page.evaluate(flight) > 0  # down: a value
    calm = visit(stepper().to_html(), "#step=9")
    assert calm.locator(".particle").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "opened"])
def test_every_text_of_the_steps_can_be_read(visit, scheme, fused):
    page = visit(stepper(fused=fused).to_html(), scheme=scheme)
    steps = int(page.inner_text("#count").split()[-1])
    for _ in range(steps):
        assert unreadable(page) == []
        page.keyboard.press("ArrowRight")
    if fused:
        page.evaluate("goto(location.hash = '#step=13&open=bn1')")
        until(page, "state.opened === 'bn1'")
        assert unreadable(page) == []


def test_a_stepper_in_a_narrow_window(visit):
    page = visit(stepper().to_html(), "#step=9", size=NARROW)
    stage, panel = page.locator("#stage").bounding_box(), page.locator("#panel").bounding_box()
    assert panel["y"] >= stage["y"] + stage["height"] - 1 and stage["height"] > 250
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    now = box(page, "op2")
    assert now["y"] > stage["y"] and now["y"] + now["height"] < stage["y"] + stage["height"]


def test_a_long_walk_has_a_map(visit):
    mg.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(20)])
    page = visit(viz.step(model(mg.randn(2, 4)).sum(), model).to_html(), "#step=30")
    assert page.is_visible("#map")
    assert "rgb" in page.evaluate("getComputedStyle(document.querySelector('#map .chosen')).fill")
    now, stage = box(page, page_now(page)), page.locator("#stage").bounding_box()
    assert stage["y"] <= now["y"] <= stage["y"] + stage["height"]


def page_now(page):
    return page.evaluate("steps[at].node")
