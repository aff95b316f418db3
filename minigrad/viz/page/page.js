"use strict";
/* What both pages share: the picture, which is moved, zoomed, searched and walked through. */

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const stage = $("stage"), panel = $("panel"), tip = $("tip");
const pictures = [stage.querySelector("svg"), ...[...document.querySelectorAll("template")].map((t) => t.content)];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const embedded = window !== window.parent;
const CROWDED = 60; // boxes from which on a small map helps

let state; // of data.states: which picture is shown
let nodes = new Map(); // id -> its record, of this picture, in the order of execution
let boxes = new Map(); // id -> its group in the SVG
let arrows = []; // {from, to, group}
let svg, chosen = null;
let view = { x: 0, y: 0, k: 1 }; // the corner of the window in the picture, and pixels per unit
const changed = []; // functions to call when the picture changes

/* An element with attributes and children; text stays text. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null && child !== ""));
  return made;
}

/* Buttons of which one is pressed. */
function choices(group, label, options, current, choose) {
  group.hidden = options.length < 2;
  const pick = (button) => {
    for (const b of group.querySelectorAll("button")) b.setAttribute("aria-pressed", b === button);
  };
  group.replaceChildren(
    make("span", { class: "label" }, label),
    ...options.map(([value, text, title]) =>
      make("button", { "data-value": value, "aria-pressed": String(value === current), title,
        onclick: (event) => { pick(event.currentTarget); choose(value); } }, text)),
  );
}

/* ---- the picture ---- */

/* Show a picture. What is looked at stays where it is, if the new picture has it, too. */
function show(index) {
  const before = chosen && boxes.get(chosen) ? boxes.get(chosen).getBoundingClientRect() : null;
  state = data.states[index];
  const picture = pictures[index];
  svg = picture.nodeType === Node.DOCUMENT_FRAGMENT_NODE ? picture.querySelector("svg").cloneNode(true) : picture.cloneNode(true);
  svg.dataset.box = svg.getAttribute("viewBox");
  svg.removeAttribute("width"); svg.removeAttribute("height");
  stage.replaceChildren(svg);
  nodes = new Map(state.nodes.map((i) => [data.records[i].id, data.records[i]]));
  const groups = new Map([...svg.querySelectorAll("[data-node]")].map((g) => [g.dataset.node, g]));
  boxes = new Map();
  const root = svg.querySelector("g");
  for (const record of nodes.values()) {
    const group = groups.get(record.id);
    if (!group) continue;
    boxes.set(record.id, group);
    root.append(group); // behind those before it: the order of tabs is that of execution
    group.setAttribute("tabindex", "0");
    group.setAttribute("role", "button");
    group.setAttribute("aria-label", spoken(record));
  }
  arrows = [...svg.querySelectorAll("[data-edge]")].map((group) => {
    const [from, to] = group.dataset.edge.split(" ");
    group.classList.add("edge");
    return { from, to, group };
  });
  for (const call of changed) call();
  drawMap();
  if (before && boxes.has(chosen)) {
    apply();
    choose(chosen, false);
    const after = boxes.get(chosen).getBoundingClientRect();
    move(after.left - before.left, after.top - before.top);
  } else fit();
}

const spoken = (record) => [record.name, record.kind === "op" ? "" : record.kind, record.shape, record.formula].filter(Boolean).join(", ");

function apply() {
  const { width, height } = stage.getBoundingClientRect();
  if (!width || !height) return; // a frame that is not laid out yet
  svg.setAttribute("viewBox", `${view.x} ${view.y} ${width / view.k} ${height / view.k}`);
  markMap();
}

const whole = () => { const [x, y, width, height] = svg.dataset.box.split(" ").map(Number); return { x, y, width, height }; };

let waiting = false; // for the stage to have a size
/* Everything in sight; but text that can be read is worth more than all of a long picture. */
function fit(all = false) {
  const { width, height } = stage.getBoundingClientRect(), box = whole();
  waiting = !width || !height;
  if (waiting) return;
  let k = Math.min(width / box.width, height / box.height, 1.6);
  if (!all) k = Math.max(k, Math.min(0.8, width / box.width));
  const high = height / k, wide = width / k;
  view = { k, x: box.x + (box.width - wide) / 2, y: high > box.height ? box.y + (box.height - high) / 2 : box.y };
  apply();
}

function move(dx, dy) { view.x += dx / view.k; view.y += dy / view.k; apply(); }

/* Zoom by a factor; the point (px, py) of the stage stays. */
function zoom(factor, px, py) {
  const { width, height } = stage.getBoundingClientRect();
  px ??= width / 2; py ??= height / 2;
  const k = Math.max(0.05, Math.min(8, view.k * factor));
  view = { k, x: view.x + px / view.k - px / k, y: view.y + py / view.k - py / k };
  apply();
}

/* Where a box is, in the picture's units. */
function place(group) {
  const r = group.getBoundingClientRect(), s = stage.getBoundingClientRect();
  return { x: view.x + (r.left - s.left) / view.k, y: view.y + (r.top - s.top) / view.k, width: r.width / view.k, height: r.height / view.k };
}

let gliding = 0;
/* Bring a box into the middle; at once, where motion is not wanted. */
function centre(group, always = true) {
  const s = stage.getBoundingClientRect(), r = group.getBoundingClientRect();
  const inside = r.left > s.left + 20 && r.right < s.right - 20 && r.top > s.top + 20 && r.bottom < s.bottom - 20;
  if (inside && !always) return;
  const p = place(group);
  glide(p.x + p.width / 2 - s.width / view.k / 2, p.y + p.height / 2 - s.height / view.k / 2);
}

function glide(x, y) {
  if (waiting) return;
  cancelAnimationFrame(gliding);
  if (calm.matches) { view.x = x; view.y = y; apply(); return; }
  const from = { ...view }, start = performance.now();
  const frame = (now) => {
    const t = Math.max(0, Math.min(1, (now - start) / 220)), ease = t * (2 - t);
    view.x = from.x + (x - from.x) * ease; view.y = from.y + (y - from.y) * ease;
    apply();
    if (t < 1) gliding = requestAnimationFrame(frame);
  };
  gliding = requestAnimationFrame(frame);
}

/* ---- pointer and wheel ---- */

const fingers = new Map();
let dragged = false;
stage.addEventListener("pointerdown", (event) => {
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (fingers.size === 1) dragged = false;
});
stage.addEventListener("pointermove", (event) => {
  const last = fingers.get(event.pointerId);
  if (!last) return;
  const dx = event.clientX - last.x, dy = event.clientY - last.y;
  if (fingers.size === 2) { // two fingers: the distance between them zooms
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1], s = stage.getBoundingClientRect();
    const apart = Math.hypot(last.x - other.x, last.y - other.y), now = Math.hypot(event.clientX - other.x, event.clientY - other.y);
    if (apart > 0 && now > 0) zoom(now / apart, other.x - s.left, other.y - s.top);
  } else if (dragged || Math.hypot(dx, dy) > 4) { // less is a click
    if (!dragged) { dragged = true; cancelAnimationFrame(gliding); stage.setPointerCapture(event.pointerId); stage.classList.add("held"); hideTip(); }
    move(-dx, -dy);
  } else return;
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
});
for (const end of ["pointerup", "pointercancel"]) {
  stage.addEventListener(end, (event) => { fingers.delete(event.pointerId); stage.classList.remove("held"); });
}
stage.addEventListener("wheel", (event) => {
  // In a notebook the wheel scrolls the notebook until somebody clicked into the picture.
  if (embedded && !event.ctrlKey && !document.hasFocus()) return;
  event.preventDefault();
  const s = stage.getBoundingClientRect(), by = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
  zoom(Math.exp(-by * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - s.left, event.clientY - s.top);
}, { passive: false });
stage.addEventListener("click", (event) => {
  if (dragged) return;
  const group = event.target.closest("[data-node]");
  if (group && nodes.has(group.dataset.node)) picked(group.dataset.node);
  else picked(null);
});

/* ---- keys ---- */

const keys = {
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": () => fit(true),
  "/": () => $("search").focus(),
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input[type=search]");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { $("search").value = ""; search(); event.target.blur?.(); picked(null); return; }
  if (typing) return;
  const group = event.target.closest?.("[data-node]");
  if (group && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); picked(group.dataset.node); return; }
  if (event.key === " " && event.target.matches?.("button, summary")) return;
  const call = keys[event.key];
  if (call) { event.preventDefault(); call(event); }
});
stage.addEventListener("focusin", (event) => {
  const group = event.target.closest("[data-node]");
  if (group?.matches(":focus-visible")) { centre(group, false); showTip(group); }
});

/* ---- what is chosen ---- */

function choose(id, look = true) {
  for (const group of svg.querySelectorAll(".chosen")) group.classList.remove("chosen");
  chosen = boxes.has(id) ? id : null;
  if (chosen === null) return;
  boxes.get(chosen).classList.add("chosen");
  if (look) centre(boxes.get(chosen), false);
  markMap();
}

const shaped = (record) => [record.shape, record.dtype !== data.dtype ? record.dtype : ""].filter(Boolean).join(" ");
const LEAVES = ["input", "parameter", "buffer", "output"]; // said before their names
const KINDS = { op: "operation", vjp: "backward operation", seed: "where the sweep starts", stop: "no gradient goes further", sum: "gradients add", hidden: "left out" };
const titled = (record) => LEAVES.includes(record.kind) && record.name !== record.kind ? `${record.kind} ${record.name}` : record.name;

/* A box's name as a button that goes there. */
function link(id, text) {
  const record = nodes.get(id);
  return make("button", { class: "link", "data-to": id, onclick: () => { picked(id); const group = boxes.get(id); if (group) centre(group, false); } }, text ?? titled(record));
}

function facts(rows) {
  const list = make("dl");
  for (const [term, said, code] of rows) if (said !== undefined && said !== "") list.append(make("dt", {}, term), make("dd", code ? { class: "code" } : {}, String(said)));
  return list.children.length ? list : undefined;
}

/* All that is known of one box. */
function described(record) {
  const rows = [["shape", record.shape, true], ["dtype", record.dtype, true], ["value", record.value, true], ["module", record.module], ["holds", record.holds], ["parameters", record.parameters && record.parameters.toLocaleString("en").replaceAll(",", " ")], ["keeps", record.keeps], ["notes", (record.notes ?? []).join(", ")]];
  for (const [name, value] of Object.entries(record.attributes ?? {})) rows.push([name, value, true]);
  for (const [name, value] of Object.entries(record.stats ?? {})) rows.push([name, value, true]);
  const used = (edges, end) => edges.filter((e) => nodes.has(e[end])).map((e) => make("li", {}, link(e[end]), e[2] && make("small", {}, ` ${e[2]}`), make("small", { class: "mono" }, ` ${nodes.get(e[end]).shape ?? ""}`)));
  const inputs = used(state.edges.filter((e) => e[1] === record.id), 0), outputs = used(state.edges.filter((e) => e[0] === record.id), 1);
  return [
    make("h2", {}, record.name), make("p", { class: "muted" }, KINDS[record.kind] ?? record.kind),
    ...(record.formula ? [make("h3", {}, "forward"), make("p", { class: "formula" }, record.formula)] : []),
    ...(record.vjp ? [make("h3", {}, "backward ", make("span", {}, "dz is ∂loss/∂z")), ...record.vjp.split(",  ").map((line) => make("p", { class: "vjp" }, line))] : []),
    facts(rows),
    ...(record.source ? [make("h3", {}, "your line"), make("pre", { class: "source" }, String(record.source))] : []),
    ...(inputs.length ? [make("h3", {}, "from"), make("ul", { id: "inputs" }, ...inputs)] : []),
    ...(outputs.length ? [make("h3", {}, "to"), make("ul", { id: "outputs" }, ...outputs)] : []),
  ].filter(Boolean);
}

/* ---- tooltips ---- */

function showTip(group) {
  const record = nodes.get(group.dataset.node);
  if (!record) return;
  const said = [record.formula, record.vjp && `backward: ${record.vjp}`, ...Object.entries(record.attributes ?? {}).map(([k, v]) => `${k} = ${v}`), ...Object.entries(record.stats ?? {}).map(([k, v]) => `${k} ${v}`), record.source].filter(Boolean);
  tip.replaceChildren(make("b", {}, titled(record)), " ", make("code", {}, shaped(record)), ...said.map((line) => make("pre", {}, line)));
  tip.hidden = false;
  const r = group.getBoundingClientRect(), t = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(innerWidth - t.width - 8, r.left + r.width / 2 - t.width / 2));
  const above = r.top - t.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${Math.max(8, above > 8 ? above : Math.min(innerHeight - t.height - 8, r.bottom + 8))}px`;
}
function hideTip() { tip.hidden = true; }
stage.addEventListener("pointerover", (event) => {
  const group = event.target.closest("[data-node]");
  if (group && !fingers.size && nodes.has(group.dataset.node)) showTip(group); else hideTip();
});
stage.addEventListener("pointerleave", hideTip);
stage.addEventListener("focusout", hideTip);

/* ---- search ---- */

let matches = [], match = 0;
/* Every word must occur in name, kind, shape, formula or module. */
function search() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  matches = !words.length ? [] : [...boxes.keys()].filter((id) => {
    const r = nodes.get(id), text = [r.name, r.kind, r.shape, r.dtype, r.formula, r.module].join(" ").toLowerCase();
    return words.every((word) => text.includes(word) || text.replaceAll(" ", "").includes(word));
  });
  match = 0;
  for (const [id, group] of boxes) {
    group.classList.toggle("found", matches.includes(id));
    group.classList.toggle("unsought", words.length > 0 && !matches.includes(id));
  }
  fade();
  $("found").value = !words.length ? "" : matches.length ? `${match + 1} of ${matches.length}` : "none";
  if (matches.length) centre(boxes.get(matches[0]));
}
function nextMatch(by) {
  if (!matches.length) return;
  match = (match + by + matches.length) % matches.length;
  $("found").value = `${match + 1} of ${matches.length}`;
  picked(matches[match]);
  centre(boxes.get(matches[match]));
}
$("search").addEventListener("input", search);
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") nextMatch(chosen !== matches[match] ? 0 : event.shiftKey ? -1 : 1);
});
/* Boxes that are not sought, or, in the stepper, whose turn has not come, lose their colours. */
function fade() {
  for (const group of boxes.values()) group.classList.toggle("faded", group.classList.contains("unsought") || group.classList.contains("pending"));
}
changed.push(() => { if ($("search").value) search(); });

/* ---- a small map of a large picture ---- */

function drawMap() {
  const map = $("map");
  map.hidden = boxes.size <= CROWDED || !stage.clientWidth;
  if (map.hidden) return;
  const box = whole(), scale = Math.min(150 / box.width, 260 / box.height);
  const kept = view;
  view = { x: box.x, y: box.y, k: 1 };
  apply();
  const rects = [...boxes].map(([id, group]) => {
    const p = place(group);
    return `<rect data-of="${id}" x="${p.x.toFixed(1)}" y="${p.y.toFixed(1)}" width="${p.width.toFixed(1)}" height="${p.height.toFixed(1)}"/>`;
  });
  map.innerHTML = `<svg aria-hidden="true" viewBox="${svg.dataset.box}" preserveAspectRatio="none" width="${Math.max(60, box.width * scale)}" height="${Math.max(60, box.height * scale)}">${rects.join("")}<rect class="window"/></svg>`;
  view = kept;
}
function markMap() {
  const map = $("map").querySelector("svg");
  if (!map || $("map").hidden) return;
  const { width, height } = stage.getBoundingClientRect(), rect = map.querySelector(".window");
  for (const [name, value] of [["x", view.x], ["y", view.y], ["width", width / view.k], ["height", height / view.k]]) rect.setAttribute(name, value);
  for (const r of map.querySelectorAll("[data-of]")) r.classList.toggle("chosen", r.dataset.of === chosen);
}
function mapped(event) {
  const r = $("map").firstChild.getBoundingClientRect(), box = whole(), { width, height } = stage.getBoundingClientRect();
  view.x = box.x + (event.clientX - r.left) / r.width * box.width - width / view.k / 2;
  view.y = box.y + (event.clientY - r.top) / r.height * box.height - height / view.k / 2;
  apply();
}
$("map").addEventListener("pointerdown", (event) => { $("map").setPointerCapture(event.pointerId); mapped(event); });
$("map").addEventListener("pointermove", (event) => { if (event.buttons) mapped(event); });

/* ---- the address: #depth=2&node=op3 ---- */

const address = () => new URLSearchParams(embedded ? "" : location.hash.slice(1));
function remember(entries) {
  if (embedded) return;
  const said = Object.entries(entries).filter(([, value]) => value !== undefined && value !== null && value !== "");
  history.replaceState(null, "", said.length ? `#${said.map(([k, v]) => `${k}=${encodeURIComponent(v)}`).join("&")}` : location.pathname + location.search);
}

/* ---- controls of both pages ---- */

$("in").onclick = () => zoom(1.25);
$("out").onclick = () => zoom(0.8);
$("fit").onclick = () => fit(true);
choices($("themes"), "theme", [["auto", "auto", "as the system"], ["light", "light"], ["dark", "dark"]], document.documentElement.dataset.theme, (theme) => { document.documentElement.dataset.theme = theme; });
new ResizeObserver(() => {
  if (!svg) return;
  if (!waiting) { apply(); return; }
  fit();
  drawMap();
  if (!waiting && boxes.has(chosen)) centre(boxes.get(chosen), false);
}).observe(stage);
