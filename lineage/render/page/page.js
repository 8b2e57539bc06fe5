// What the reader does: pan, zoom, point, choose, fold, and the keys.
const LEAST = 0.02, MOST = 3;

function zoom(factor, x = view.width / 2, y = view.height / 2) {
  const scale = Math.min(MOST, Math.max(LEAST, view.scale * factor));
  view.x = x - (x - view.x) * scale / view.scale;
  view.y = y - (y - view.y) * scale / view.scale;
  view.scale = scale;
  redraw();
}

function fit(least) {
  const margin = 32;
  const whole = Math.min((view.width - 2 * margin) / Math.max(drawn.width, 1),
    (view.height - 2 * margin) / Math.max(drawn.height, 1), 1.25);
  view.scale = Math.max(whole, least, LEAST);
  view.x = (view.width - drawn.width * view.scale) / 2;
  view.y = (view.height - drawn.height * view.scale) / 2;
  // What does not fit at a readable size starts where the question started.
  if (whole < least && items.length) {
    centre(data.start >= 0 ? itemOf[data.start] : 0);
    const hold = (at, size, room) => size <= room
      ? (room - size) / 2 : Math.min(margin, Math.max(room - size - margin, at));
    view.x = hold(view.x, drawn.width * view.scale, view.width);
    view.y = hold(view.y, drawn.height * view.scale, view.height);
  }
  showMap();
  redraw();
}

function showMap() {
  const isWhole = drawn.width * view.scale < view.width && drawn.height * view.scale < view.height;
  map.classList.toggle("idle", isWhole || view.width < 500);
}

function centre(item) {
  const [x, y, width, height] = boxOf(item);
  view.x = view.width / 2 - (x + width / 2) * view.scale;
  view.y = view.height / 2 - (y + height / 2) * view.scale;
  redraw();
}

function reveal(item) {
  const right = details.hidden ? 0 : details.offsetWidth + 24;
  const [x, y, width, height] = boxOf(item);
  const left = x * view.scale + view.x, top = y * view.scale + view.y;
  const inside = left > 0 && top > 0 && left + width * view.scale < view.width - right &&
    top + height * view.scale < view.height;
  if (!inside) centre(item);
}

function refresh() {
  recount();
  mapImage = null;
  redraw();
}

// Mark the path of an item, or of none.
function focus(item) {
  state.focused = item >= 0;
  const [above, below] = follow(item);
  refresh();
  return [above, below];
}

function refocus() {
  const [above, below] = focus(state.kept >= 0 ? state.kept : hovered);
  if (state.kept >= 0) describe(state.kept, above, below);
}

function keep(item) {
  state.kept = item;
  const [above, below] = focus(item);
  details.hidden = item < 0;
  tip.hidden = true;
  if (item < 0) return;
  describe(item, above, below);
  reveal(item);
  const one = items[item];
  const name = one.isStack ? `${one.seen} times ${one.type}, folded` : entities[one.members[0]].name;
  say.textContent = `${name}; ${one.type}; ${above} upstream, ${below} downstream`;
}

// Go to an entity; out of its stack, if it is in one.
function goTo(node) {
  if (!isThere(node)) return;
  if (items[itemOf[node]].isStack) pull([node], node);
  else {
    keep(itemOf[node]);
    if (view.scale < 0.5) zoom(0.75 / view.scale);
    centre(itemOf[node]);
  }
}

// Lay out anew and keep one entity where it is on the screen.
function rearrange(anchor) {
  const before = anchor >= 0 && drawn ? boxOf(itemOf[anchor]) : null;
  const at = before && [before[0] * view.scale + view.x, before[1] * view.scale + view.y];
  hovered = hoveredEdge = -1;
  regroup();
  if (at) {
    const [x, y] = boxOf(itemOf[anchor]);
    view.x = at[0] - x * view.scale;
    view.y = at[1] - y * view.scale;
  }
  showMap();
  showFolds();
  refocus();
}

function unfold(keys, anchor) {
  for (const key of keys) state.folded.delete(key);
  state.kept = -1;
  details.hidden = true;
  rearrange(anchor);
}

// Take entities out of their stacks.
function pull(nodes, anchor) {
  for (const node of nodes) state.apart.add(node);
  rearrange(anchor);
  keep(itemOf[anchor]);
  if (view.scale < 0.5) zoom(0.75 / view.scale);
  centre(itemOf[anchor]);
}

// Fold all of a type, or unfold it when any of it is folded.
function foldType(what) {
  const members = [...entities.keys()].filter((node) => typeOf[node] === what);
  const isFolded = members.some((node) => items[itemOf[node]].isStack);
  for (const node of members) {
    if (isFolded) state.folded.delete(stackKey(node));
    else {
      state.folded.add(stackKey(node));
      state.apart.delete(node);
    }
  }
  if (state.kept >= 0 && items[state.kept].members.some((node) => typeOf[node] === what)) keep(-1);
  const anchor = state.kept >= 0 ? items[state.kept].members[0] : data.start;
  rearrange(anchor >= 0 ? anchor : 0);
  say.textContent = `${what.slice(what.indexOf(" ") + 1)} ${isFolded ? "unfolded" : "folded"}`;
}

// To a neighbour on the drawing: upstream, downstream, or in the same layer.
function stroll(dx, dy) {
  const [x, y] = boxOf(state.kept);
  let best = -1, least = Infinity;
  const consider = (item) => {
    if (item === state.kept || !items[item].seen) return;
    const [a, b] = boxOf(item);
    const cost = dx ? Math.abs(b - y) + Math.abs(a - x) : Math.abs(b - y) + 4 * Math.abs(a - x);
    if (cost < least) [best, least] = [item, cost];
  };
  if (dx) {
    for (const edge of edges) {
      if (!edge.seen) continue;
      if (dx < 0 && edge.b === state.kept) consider(edge.a);
      if (dx > 0 && edge.a === state.kept) consider(edge.b);
    }
  } else {
    items.forEach((one, item) => {
      if ((boxOf(item)[1] - y) * dy > 0 && one.layer === items[state.kept].layer) consider(item);
    });
  }
  if (best >= 0) keep(best);
}

// Pointers.
const pointers = new Map();
const tip = document.getElementById("tip");
let moved = 0;
const placeOf = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  pointers.set(event.pointerId, event);
  canvas.setPointerCapture(event.pointerId);
  moved = 0;
  tip.hidden = true;
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) {
    point(...placeOf(event));
    return;
  }
  const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
  moved += Math.abs(dx) + Math.abs(dy);
  if (moved > 4) canvas.classList.add("panning");
  const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
  pointers.set(event.pointerId, event);
  if (other) {
    const span = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const [x, y] = placeOf(event), [a, b] = placeOf(other);
    zoom(span(event) / Math.max(span(before), 1), (x + a) / 2, (y + b) / 2);
  } else {
    view.x += dx;
    view.y += dy;
    redraw();
  }
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    const isClick = kind === "pointerup" && pointers.size === 1 && pointers.has(event.pointerId) && moved <= 4;
    pointers.delete(event.pointerId);
    canvas.classList.remove("panning");
    showMap();
    redraw();
    if (!isClick) return;
    const item = itemAt(...placeOf(event));
    listFound(null);
    keep(item === state.kept ? -1 : item);
  });
}
canvas.addEventListener("pointerleave", () => point(-1e9, -1e9));
canvas.addEventListener("dblclick", (event) => {
  const item = itemAt(...placeOf(event));
  if (item < 0) zoom(1.6, ...placeOf(event));
  else if (items[item].isStack) unfold([items[item].key], items[item].members[0]);
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  tip.hidden = true;
  const turned = event.deltaY * (event.deltaMode === 1 ? 18 : 1);
  zoom(Math.exp(-turned * (event.ctrlKey ? 0.01 : 0.0016)), ...placeOf(event));
  showMap();
}, { passive: false });

// What is under the pointer: its path, and a word on it.
function point(x, y) {
  const item = itemAt(x, y);
  const edge = item < 0 && x > -1e8 ? edgeAt(x, y) : -1;
  canvas.classList.toggle("over", item >= 0);
  if (item !== hovered || edge !== hoveredEdge) {
    const changed = item !== hovered;
    hovered = item;
    hoveredEdge = edge;
    if (changed && state.kept < 0) focus(item);
    else redraw();
  }
  tip.hidden = item < 0 && edge < 0;
  if (tip.hidden) return;
  if (item >= 0) {
    const one = items[item];
    const node = one.members[0];
    const lines = one.isStack
      ? [`${one.seen.toLocaleString("en")} × ${one.type}`, "folded; double-click to unfold"]
      : [entities[node].name, `${one.type} ${versionOf(entities[node])}`.trim(), stateOf(node), when(entities[node].created)];
    tip.replaceChildren(...lines.filter(Boolean).map((line, rank) => text(rank ? "small" : "b", line)));
  } else {
    const { a, b, type, links: all } = edges[edge];
    const name = (one) => (items[one].isStack ? `${items[one].type} ×` : entities[items[one].members[0]].name);
    tip.replaceChildren(text("b", data.types[type]), text("small", `${name(a)} → ${name(b)}`));
    if (all.length > 1) tip.append(text("small", `${all.length.toLocaleString("en")} associations`));
  }
  tip.style.left = `${Math.max(4, Math.min(x + 14, view.width - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > view.height ? y - tip.offsetHeight - 12 : y + 18}px`;
}

const go = (event) => {
  if (!event.buttons) return;
  const box = map.getBoundingClientRect();
  const [scale, x, y] = mapScale();
  view.x = view.width / 2 - (event.clientX - box.left - x) / scale * view.scale;
  view.y = view.height / 2 - (event.clientY - box.top - y) / scale * view.scale;
  redraw();
};
map.addEventListener("pointerdown", go);
map.addEventListener("pointermove", go);

// Buttons and keys.
const hint = document.getElementById("hint");
const keys = document.getElementById("keys");
setTimeout(() => hint.classList.add("gone"), 8000);
canvas.addEventListener("pointerdown", () => hint.classList.add("gone"));
const bind = (id, action) => document.getElementById(id).addEventListener("click", action);

function turn() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  recolour();
}

function recolour() {
  readColours();
  for (const dot of document.querySelectorAll("#states .dot")) dot.style.background = colourOfState(dot.dataset.state);
  mapImage = null;
  bars();
  redraw();
}

function toggleSide() {
  const isOpen = document.body.classList.toggle("narrow");
  document.getElementById("panels").setAttribute("aria-expanded", !isOpen);
  resize();
  bars();
}

function letGo() {
  search.value = "";
  search.blur();
  press(null);
  listFound(null);
  keys.hidden = true;
  mark(null);
  keep(-1);
}

bind("fit", () => fit(0));
bind("in", () => { zoom(1.25); showMap(); });
bind("out", () => { zoom(0.8); showMap(); });
bind("theme", turn);
bind("panels", toggleSide);
bind("play", play);
bind("help", () => { keys.hidden = !keys.hidden; });
bind("all", () => unfold([...state.folded], data.start >= 0 ? data.start : 0));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
until.addEventListener("input", () => setTime(Number(until.value)));
document.getElementById("basis").addEventListener("change", (event) => {
  state.basis = event.target.value;
  timeline();
});
search.addEventListener("input", () => {
  press(null);
  seek();
});
search.addEventListener("focus", () => { if (search.value) listFound(found); });
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") nextHit(event.shiftKey ? -1 : 1);
});

addEventListener("keydown", (event) => {
  if (event.key === "Escape") letGo();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) return;
  if (event.target.matches("button") && (event.key === "Enter" || event.key === " ")) return;
  const chosen = state.kept >= 0;
  const arrow = (dx, dy) => () => {
    if (chosen && !event.shiftKey) stroll(dx, dy);
    else {
      view.x -= 80 * dx;
      view.y -= 80 * dy;
      redraw();
    }
  };
  const actions = {
    "/": () => search.focus(), f: () => fit(0), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
    ArrowLeft: arrow(-1, 0), ArrowRight: arrow(1, 0), ArrowUp: arrow(0, -1), ArrowDown: arrow(0, 1),
    t: turn, p: toggleSide, "?": () => { keys.hidden = !keys.hidden; },
    "[": () => step(-1), "]": () => step(1), " ": play,
    Enter: () => {
      if (chosen && items[state.kept].isStack) unfold([items[state.kept].key], items[state.kept].members[0]);
      else if (!chosen && items.length) keep(itemOf[data.start >= 0 ? data.start : 0]);
    },
    c: () => { if (chosen) foldType(typeOf[items[state.kept].members[0]]); },
  };
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
addEventListener("resize", () => {
  resize();
  bars();
});

if (innerWidth <= 900) {
  // There the side panel lies over the drawing.
  document.body.classList.add("narrow");
  document.getElementById("panels").setAttribute("aria-expanded", false);
}
readColours();
legend();
recolour();
tidy();
regroup();
showFolds();
recount();
const room = canvas.getBoundingClientRect();
view.width = room.width;
view.height = room.height;
timeline();
resize();
fit(items.length > 70 ? 0.85 : 0.44);
paint();
bars();
document.documentElement.dataset.ready = "true";
// For scripts: what is shown, without reading the pixels.
window.lineagePage = Object.freeze({
  items: () => items.map((one, item) => ({
    names: one.members.map((node) => entities[node].name), called: nameOf(one.members[0]), isStack: one.isStack, type: one.type, shown: one.seen,
    up: Boolean(one.mark & UP), down: Boolean(one.mark & DOWN), self: Boolean(one.mark & SELF), hits: one.hits,
    box: boxOf(item), onScreen: [boxOf(item)[0] * view.scale + view.x, boxOf(item)[1] * view.scale + view.y],
  })),
  edges: () => edges.map(({ a, b, type, seen, alpha = 0, mark: lit, links: all }) => ({
    from: a, to: b, type: data.types[type], shown: seen, alpha, associations: all.length, up: Boolean(lit & UP), down: Boolean(lit & DOWN) })),
  labels: () => labelBoxes,
  view: () => ({ ...view }),
  paint,
});
