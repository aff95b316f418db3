/* The page of a graph: switches for depth and opened ops, and a panel for the chosen box. */

const depths = [...new Set(data.states.map((s) => s.depth))].sort((a, b) => (a === "all") - (b === "all") || a - b);
const openings = [...new Set(data.states.map((s) => s.opened))];
let depth, opened;

/* The state for the switches: the exact one, or, where that was left out, the nearest. */
function position() {
  const same = (s) => s.depth === depth && s.opened === opened;
  let i = data.states.findIndex(same);
  if (i < 0) i = data.states.findIndex((s) => s.depth === depth);
  return Math.max(0, i);
}

function switches() {
  choices($("depths"), "depth", depths.map((d) => [d, d, d === "all" ? "every module open" : `modules open to depth ${d}`]), depth, (d) => { depth = d; turn(); });
  choices($("openings"), "ops", openings.map((o) => [o, o === "" ? "fused" : o === "all" ? "opened" : o, o === "" ? "one box for each kernel" : "what the kernels compute, from primitives"]), opened, (o) => { opened = o; turn(); });
}

function turn() {
  show(position());
  depth = state.depth; opened = state.opened;
  switches();
  picked(chosen);
}

/* Choose a box, or none. */
function picked(id) {
  choose(id);
  const record = nodes.get(chosen);
  panel.replaceChildren(...(record ? described(record) : overview()));
  panel.scrollTop = 0;
  const first = data.states[0];
  remember({ depth: depth === first.depth ? "" : depth, opened: opened === first.opened ? "" : opened || "no", node: chosen });
}

function overview() {
  const key = (k, said) => make("li", {}, make("kbd", {}, k), ` ${said}`);
  return [
    make("h1", {}, data.title), make("p", { class: "muted" }, data.facts),
    make("p", {}, "Click a box to see what it computes, what it is made from and where it goes."),
    make("h3", {}, "keys"),
    make("ul", {}, key("Tab", "next box, in the order of execution"), key("Enter", "choose it"), key("← ↑ ↓ →", "move"), key("+ − 0", "zoom, fit"), key("/", "search; Enter goes to the next"), key("Esc", "let go")),
    ...(data.left_out.length ? [make("h3", {}, "left out"), make("p", { id: "left-out" }, `${data.left_out.join("; ")}: too much for one page.`)] : []),
    make("details", {}, make("summary", {}, "as text"), make("pre", {}, $("text").textContent)),
  ];
}

function goto() {
  const asked = address();
  depth = asked.get("depth") ?? data.states[0].depth;
  opened = asked.get("opened") ?? data.states[0].opened;
  if (opened === "no") opened = "";
  chosen = null;
  turn();
  if (asked.get("node")) picked(asked.get("node"));
}

Object.assign(keys, { ArrowLeft: () => move(-60, 0), ArrowRight: () => move(60, 0), ArrowUp: () => move(0, -60), ArrowDown: () => move(0, 60) });
addEventListener("hashchange", goto);
goto();
