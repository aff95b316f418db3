/* The page that steps through a tape: forward, value by value, then backward. */

let steps, at = 0; // of the picture shown
let whole_at = 0; // where the walk through the whole graph stands, while an op is opened
let leaves; // op -> the leaves it uses
let forwardAt, backwardAt; // node -> the step in which its value, or its whole gradient, is there
let playing = 0;
document.body.classList.add("stepper");

const byOpened = (name) => data.states.findIndex((s) => s.opened === name);
const opening = (id) => state.opened ? undefined : data.states.find((s) => s.opened && s.of === id);

/* ---- what is finished in which step ---- */

changed.push(() => {
  steps = state.steps;
  forwardAt = new Map(); backwardAt = new Map(); leaves = new Map();
  for (const [from, to] of state.edges) if (nodes.get(from)?.kind !== "op") leaves.set(to, [...(leaves.get(to) ?? []), from]);
  steps.forEach((s, k) => {
    if (s.phase === "forward") forwardAt.set(s.node, k);
    if (s.phase !== "backward") return;
    backwardAt.set(s.node, k);
    for (const section of s.sections) for (const item of section.items) if (item.of && !nodes.get(item.of)?.kind.startsWith("op")) backwardAt.set(item.of, k);
  });
  for (const [from, to] of state.edges) { // a leaf is there when it is first used
    if (nodes.get(to)?.kind === "output") forwardAt.set(to, forwardAt.get(from));
    else if (nodes.get(from)?.kind !== "op") forwardAt.set(from, Math.min(forwardAt.get(from) ?? Infinity, forwardAt.get(to) ?? 0));
    else if (nodes.get(to)?.kind !== "op") forwardAt.set(to, forwardAt.get(from)); // a buffer
  }
});

const ready = (id, k) => {
  const when = steps[k].phase === "forward" ? forwardAt : backwardAt;
  return when.has(id) && when.get(id) <= k;
};

/* ---- one step ---- */

function go(k, look = true) {
  at = Math.max(0, Math.min(steps.length - 1, k));
  const now = steps[at], forward = now.phase === "forward";
  svg.classList.toggle("forward", forward);
  for (const [id, group] of boxes) {
    group.classList.toggle("now", id === now.node);
    group.classList.toggle("pending", !ready(id, at));
    if (id === now.node) group.setAttribute("aria-current", "step"); else group.removeAttribute("aria-current");
  }
  for (const { from, to, group } of arrows) {
    const current = to === now.node;
    group.classList.toggle("now", current);
    const there = from === to ? (leaves.get(to) ?? []).some((leaf) => ready(leaf, at)) : ready(from, at);
    group.classList.toggle("faded", !current && !(ready(to, at) && there));
  }
  fade();
  badges();
  particles(forward);
  turned(now);
  if (now.node && look && boxes.get(now.node)) centre(boxes.get(now.node), false);
  choose(now.node, false);
  remember({ step: at + 1, open: state.opened });
}

/* In each finished box the size of its value, or of its gradient: Graphviz left a blank line. */
function badges() {
  const forward = steps[at].phase === "forward", said = new Map();
  steps.forEach((s, k) => {
    if (k > at || s.phase !== (forward ? "forward" : "backward")) return;
    const item = forward ? s.sections.at(-1).items[0] : s.sections[0].items[0], array = data.arrays[item.array];
    if (array?.value !== undefined) said.set(s.node, `${item.name} = ${minus(array.value)}`);
    else if (array?.norm !== undefined) said.set(s.node, `‖${item.name}‖ ${digits(array.norm, 3)}`);
  });
  for (const [id, group] of boxes) {
    const line = group.querySelector(".badge") ?? [...group.querySelectorAll("text")].find((t) => t.textContent.length > 9 && !t.textContent.trim());
    if (!line) continue;
    line.classList.add("badge");
    line.textContent = said.get(id) ?? "";
  }
}

/* Dots that go along the arrows of this step: values to the box, gradients away from it. */
let flying = 0;
function particles(forward) {
  cancelAnimationFrame(flying);
  svg.querySelector(".particles")?.remove();
  if (calm.matches) return;
  const group = document.createElementNS("http://www.w3.org/2000/svg", "g");
  group.setAttribute("class", "particles");
  const dots = arrows.filter((a) => a.to === steps[at].node && (forward || (a.from === a.to ? (leaves.get(a.to) ?? []).some((leaf) => backwardAt.has(leaf)) : backwardAt.has(a.from)))).map((a) => {
    const path = a.group.querySelector("path"), dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    dot.setAttribute("r", 4); dot.setAttribute("class", "particle");
    group.append(dot);
    return { path, dot, length: path.getTotalLength() };
  });
  svg.querySelector("g").append(group);
  const start = performance.now(), once = 1300;
  const frame = (now) => {
    const t = Math.max(0, now - start) / once;
    if (t > 3) { group.remove(); return; }
    for (const { path, dot, length } of dots) {
      const p = path.getPointAtLength(length * (forward ? t % 1 : 1 - t % 1));
      dot.setAttribute("cx", p.x); dot.setAttribute("cy", p.y);
    }
    flying = requestAnimationFrame(frame);
  };
  if (dots.length) flying = requestAnimationFrame(frame);
}

/* ---- the panel ---- */

const minus = (text) => String(text).replace(/-/g, "\u2212");
const written = (v, decimals) => typeof v === "string" ? minus(v) : minus(v.toFixed(decimals));
const digits = (v, n = 5) => minus(v === 0 ? 0 : Math.abs(v) >= 1e-3 && Math.abs(v) < 1e5 ? Number(v.toPrecision(n)) : v.toExponential(n - 1));

function heat(array, checks, ask) {
  const largest = Math.max(1e-300, ...array.rows.flat().map((v) => Math.abs(v) || 0));
  const table = make("table");
  array.rows.forEach((row, r) => {
    const line = table.insertRow();
    row.forEach((v, c) => {
      const cell = line.insertCell(), share = typeof v === "number" ? Math.round(45 * Math.abs(v) / largest) : 0;
      cell.textContent = written(v, array.decimals);
      if (array.norm !== undefined && share) cell.style.background = `color-mix(in srgb, var(${v < 0 ? "--line-input" : "--line-gradient"}) ${share}%, transparent)`;
      if (checks[`${r},${c}`]) {
        cell.className = "checked";
        cell.tabIndex = 0; cell.setAttribute("role", "button");
        cell.title = "check this entry by a finite difference";
        cell.onclick = () => ask(r, c, cell);
        cell.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); ask(r, c, cell); } };
      }
    });
  });
  return table;
}

/* What an array holds beyond its table. */
function sized(array) {
  return [array.shape, array.corner && `corner ${array.corner}`, array.power && `in units of 1e${minus(array.power)}`,
    array.norm !== undefined && `norm ${digits(array.norm, 3)} · mean ${digits(array.mean, 3)}`,
    array.nan && `${array.nan} NaN`, array.inf && `${array.inf} infinite`].filter(Boolean).join(" · ");
}

function shown(item) {
  const done = steps[at].phase === "done", head = done ? [] : [make("b", {}, item.name)];
  if (item.part) head.push(make("b", {}, ` (${item.part})`));
  if (item.of) head.push(" ", make("small", {}, done ? "" : steps[at].phase === "forward" ? "from " : "to "), link(item.of));
  if (item.note) head.push(make("small", {}, ` ${item.note}`));
  const all = make("div", { class: "array", "data-name": item.name }, ...head, make("br"));
  const array = data.arrays[item.array];
  if (!array) { all.append(make("small", {}, "not known any more: nobody holds it")); return all; }
  all.append(make("small", {}, sized(array)));
  const checks = item.checks ?? {}, said = make("p", { class: "check", "aria-live": "polite" });
  const ask = (r, c, cell) => {
    for (const other of all.querySelectorAll(".asked")) other.classList.remove("asked");
    cell.classList.add("asked");
    const [difference, vjp, h, kink] = checks[`${r},${c}`];
    const index = array.shape === "()" ? "" : array.rows.length > 1 || array.shape.split(",").filter((s) => /\d/.test(s)).length > 1 ? `[…${r}, ${c}]` : `[${c}]`;
    said.replaceChildren(make("b", {}, `perturb ${done ? item.name : item.name.slice(1)}${index.replace("…", array.corner?.startsWith("[0") ? array.corner.slice(1).replace(/:.*/, "") : "")}: `),
      `finite difference ${digits(difference)}, vjp ${digits(vjp)}`, make("br"),
      make("small", {}, kink ? "The slopes of its two sides differ: a kink, where the rule takes one of them." : Math.max(Math.abs(difference), Math.abs(vjp)) < 1e-7 ? "Both are zero but for rounding." : `${state.opened ? "Σ dy · y" : "The loss"} with ±${h}${item.part ? " in this use alone" : ""}, computed anew in float64.`));
    said.hidden = false;
  };
  all.append(heat(array, checks, ask));
  if (item.keeps) all.append(make("p", { class: "keeps" }, `● kept for backward: ${item.keeps.join(", ")}`));
  const first = all.querySelector(".checked");
  said.hidden = !first;
  if (first) { all.append(said); const best = strongest(array, checks); ask(...best, all.querySelector("table").rows[best[0]].cells[best[1]]); }
  return all;
}

const strongest = (array, checks) => Object.keys(checks).map((key) => key.split(",").map(Number)).sort((a, b) => Math.abs(array.rows[b[0]][b[1]]) - Math.abs(array.rows[a[0]][a[1]]))[0];

const controls = {
  back: make("button", { id: "prev", title: "back (←)", "aria-label": "One step back", onclick: () => { stop(); go(at - 1); } }, "◀"),
  slider: make("input", { id: "slider", type: "range", min: 0, "aria-label": "Step", oninput: (event) => { stop(); go(Number(event.target.value)); } }),
  next: make("button", { id: "next", title: "on (→)", "aria-label": "One step on", onclick: () => { stop(); go(at + 1); } }, "▶"),
  play: make("button", { id: "play", title: "play (space)", "aria-pressed": "false", onclick: () => play() }, "play"),
  count: make("output", { id: "count" }),
};
const step_panel = make("div", { id: "step" });
panel.append(make("h1", {}, data.title), make("div", { class: "walk" }, controls.back, controls.slider, controls.next, controls.play, controls.count), make("div", { id: "crumb" }), step_panel);

function turned(now) {
  const record = nodes.get(now.node), phase = now.phase === "forward" ? "forward" : now.phase === "backward" ? "backward" : "done";
  controls.slider.max = steps.length - 1; controls.slider.value = at;
  controls.count.value = `${at + 1} / ${steps.length}`;
  controls.slider.setAttribute("aria-valuetext", `${at + 1} of ${steps.length}: ${phase}, ${record?.name ?? ""}`);
  controls.back.disabled = at === 0; controls.next.disabled = at === steps.length - 1;
  $("crumb").replaceChildren(...(state.opened ? [make("button", { id: "close", class: "link", onclick: closeOp }, "◂ the whole graph"), make("small", {}, ` / ${nameOf(state)}, opened`)] : []));
  const inner = opening(now.node);
  const parts = [
    make("span", { class: `phase ${phase === "forward" ? "forward" : "backward"}` }, phase === "done" ? "backward, done" : phase),
    make("h2", {}, phase === "done" ? state.opened ? "its gradients" : "every gradient" : record.name),
  ];
  if (record?.module) parts.push(make("p", { class: "muted" }, record.module));
  if (phase !== "done" && record?.kind === "op") {
    if (phase === "forward") parts.push(make("p", { class: "formula" }, record.formula));
    else parts.push(...(record.vjp ?? "").split(",  ").map((line) => make("p", { class: "vjp" }, line)));
  }
  if (phase !== "done" && record?.notes?.length) parts.push(make("p", { class: "muted notes" }, record.notes.join(" · ")));
  if (inner && phase !== "done") parts.push(make("button", { id: "why", class: "link", onclick: () => openOp(inner, phase) }, phase === "forward" ? "how? open its primitives" : "why? open its primitives"));
  if (phase === "backward" && record?.kind === "output") parts.push(make("p", { class: "muted" }, state.opened ? "dy is what arrived at the fused operation." : "dz is ∂loss/∂z. The sweep starts with the gradient of the output by itself."));
  if (phase === "done") parts.push(make("p", { class: "muted" }, state.opened ? "The same as the fused operation passes on." : "What backward() adds to .grad."));
  for (const section of now.sections) parts.push(make("h3", {}, section.title), ...section.items.map(shown));
  if (phase === "done" && (data.left_out.length || data.unchecked)) parts.push(make("h3", {}, "left out"), make("p", { id: "left-out" }, [data.left_out.length ? `${data.left_out.join(", ")} cannot be opened here: too much for one page.` : "", data.unchecked ? "Only some of the gradients were checked by finite differences." : ""].filter(Boolean).join(" ")));
  step_panel.replaceChildren(...parts);
  panel.scrollTop = 0;
}

const nameOf = (s) => data.states[0].nodes.map((i) => data.records[i]).find((r) => r.id === s.of)?.name ?? s.opened;

/* ---- opened ops ---- */

function openOp(inner, phase) {
  stop();
  whole_at = at;
  turn(data.states.indexOf(inner));
  go(phase === "forward" ? 0 : steps.findIndex((s) => s.phase === "backward"));
}
function closeOp() {
  stop();
  turn(0);
  go(whole_at);
}
function turn(index) { chosen = null; show(index); }

/* ---- walking ---- */

function play() {
  if (playing) { stop(); return; }
  if (at === steps.length - 1) go(0);
  controls.play.setAttribute("aria-pressed", "true");
  playing = setInterval(() => { go(at + 1); if (at === steps.length - 1) stop(); }, 1500);
}
function stop() {
  clearInterval(playing);
  playing = 0;
  controls.play.setAttribute("aria-pressed", "false");
}

/* A click on a box: the step in which its value, or its gradient, comes. */
function picked(id) {
  if (id === null) return;
  const when = steps[at].phase === "forward" ? forwardAt : backwardAt;
  stop();
  if (when.has(id)) go(when.get(id)); else if (forwardAt.has(id)) go(forwardAt.get(id));
}

function goto() {
  const asked = address();
  const index = Math.max(0, byOpened(asked.get("open") ?? ""));
  if (!state || data.states[index] !== state) turn(index);
  const wanted = Number(asked.get("step") ?? 1);
  if (index && !whole_at) whole_at = Math.max(0, data.states[0].steps.findIndex((s) => s.phase === "backward" && s.node === state.of));
  go(Number.isFinite(wanted) ? Math.round(wanted) - 1 : 0);
}

Object.assign(keys, {
  ArrowLeft: () => { stop(); go(at - 1); }, ArrowRight: () => { stop(); go(at + 1); },
  Home: () => { stop(); go(0); }, End: () => { stop(); go(steps.length - 1); }, " ": () => play(),
});
addEventListener("hashchange", goto);
goto();
