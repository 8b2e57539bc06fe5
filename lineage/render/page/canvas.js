// Drawing on the canvas: only what is in the window, in the detail that the zoom can show.
const ICONS = {
  Artifact: "M4 1.8h5.2L12.5 5v9.2h-8.5zM9 2v3.4h3.4",
  TrialComponent: "M5.2 3.2 12.4 8l-7.2 4.8z",
  Action: "M8.8 1.6 3.6 9h3.8l-.6 5.4L12.4 7H8.4z",
  Context: "M1.8 4.2h4.4l1.4 1.8h6.6v7H1.8z",
  Trial: "M6.2 2h3.6M7 2v4.2L3.2 13a.8.8 0 0 0 .7 1.2h8.2a.8.8 0 0 0 .7-1.2L9 6.2V2",
  Experiment: "M6.2 2h3.6M7 2v4.2L3.2 13a.8.8 0 0 0 .7 1.2h8.2a.8.8 0 0 0 .7-1.2L9 6.2V2",
  DataSet: "M2.5 4c0-1.2 2.4-2 5.5-2s5.5.8 5.5 2-2.4 2-5.5 2-5.5-.8-5.5-2zm0 0v8c0 1.2 2.4 2 5.5 2" +
    "s5.5-.8 5.5-2V4M2.5 8c0 1.2 2.4 2 5.5 2s5.5-.8 5.5-2",
  Model: "M8 1.6 13.6 4.8v6.4L8 14.4 2.4 11.2V4.8zM2.6 5 8 8l5.4-3M8 8v6.2",
  Image: "M2 5.2h12v8H2zM2 5.2 4 2.6h8l2 2.6M8 2.6v2.6",
  Endpoint: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM2 8h12M8 2c3.6 3.4 3.6 8.6 0 12-3.6-3.4-3.6-8.6 0-12",
};
// By type of association: dashes in pixels, and whether the tip is filled.
const LINE_STYLES = {
  ContributedTo: { dash: [], open: true },
  Produced: { dash: [], bold: true },
  DerivedFrom: { dash: [8, 4] },
  AssociatedWith: { dash: [1.5, 4] },
  SameAs: { dash: [8, 3, 1.5, 3] },
};
const FONT = '"Inter", system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif';
const NEAR = 0.78; // from this zoom on everything is told, in its own size
const paths = new Map();
const hasOwn = (object, name) => Object.prototype.hasOwnProperty.call(object, name);
const iconOf = (type, kind) => (hasOwn(ICONS, type) ? ICONS[type] : ICONS[kind]);
const canvas = document.getElementById("drawing");
const pen = canvas.getContext("2d");
const view = { x: 0, y: 0, scale: 1, width: 0, height: 0, ratio: 1 };
let colours = {};
let hovered = -1, hoveredEdge = -1;
let asked = 0;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  colours = {};
  for (const name of ["ground", "dots", "panel", "card", "line", "text", "soft", "edge", "up", "down", "self",
    "good", "bad", "busy", "held", "faint", ...Object.keys(data.kinds).map((kind) => kind.toLowerCase())]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

function colourOfState(name) {
  return { Completed: colours.good, Failed: colours.bad, InProgress: colours.busy, Stopped: colours.held,
    Stopping: colours.held, Running: colours.busy, Approved: colours.good, Rejected: colours.bad,
    InService: colours.good, Aborted: colours.bad }[name] ?? colours.soft;
}

function resize() {
  const box = canvas.getBoundingClientRect();
  view.ratio = window.devicePixelRatio || 1;
  view.width = box.width;
  view.height = box.height;
  canvas.width = Math.max(1, Math.round(box.width * view.ratio));
  canvas.height = Math.max(1, Math.round(box.height * view.ratio));
  paint();
}

function redraw() {
  asked ||= requestAnimationFrame(paint);
}

function boxOf(item) {
  return [drawn.x[item], drawn.y[item], drawn.sizes.width, drawn.heightOf[item]];
}

function paint() {
  cancelAnimationFrame(asked);
  asked = 0;
  const { scale, ratio } = view;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = colours.ground;
  pen.fillRect(0, 0, view.width, view.height);
  paintDots();
  pen.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * view.x, ratio * view.y);
  const window_ = [-view.x / scale, -view.y / scale,
    (view.width - view.x) / scale, (view.height - view.y) / scale];
  const visible = [];
  for (let item = 0; item < items.length; item++) {
    if (!items[item].seen) continue;
    const [x, y, width, height] = boxOf(item);
    if (x < window_[2] && x + width > window_[0] && y < window_[3] && y + height > window_[1]) visible.push(item);
  }
  const dim = state.focused || state.searched;
  paintEdges(window_, dim);
  visible.sort((a, b) => weight(a) - weight(b));
  const labels = [];
  for (const item of visible) paintItem(item, dim, labels);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  paintLabels(labels, visible.filter((item) => drawn.heightOf[item] * scale >= 9));
  paintMap();
}

function paintDots() {
  const step = 28 * (view.scale < 0.35 ? 4 : view.scale < 0.8 ? 2 : 1) * view.scale;
  if (step < 10) return;
  pen.fillStyle = colours.dots;
  const size = Math.min(1.6, 1.6 * view.scale + 0.4);
  for (let x = ((view.x % step) + step) % step; x < view.width; x += step) {
    for (let y = ((view.y % step) + step) % step; y < view.height; y += step) pen.fillRect(x, y, size, size);
  }
}

// What matters is painted last.
function weight(item) {
  const { mark, hits } = items[item];
  return (item === hovered ? 8 : 0) + (mark & SELF ? 4 : 0) + (mark ? 2 : 0) + (hits ? 1 : 0);
}

function edgePath(edge, far) {
  const route = drawn.routes[edge];
  let [x, y] = route[0];
  pen.moveTo(x, y);
  for (let at = 1; at < route.length; at++) {
    const [nextX, nextY] = route[at];
    if (far || Math.abs(nextY - y) < 0.05) pen.lineTo(nextX, nextY);
    else {
      const half = (x + nextX) / 2;
      pen.bezierCurveTo(half, y, half, nextY, nextX, nextY);
    }
    x = nextX;
    y = nextY;
  }
}

function boundsOf(edge) {
  if (edges[edge].bounds) return edges[edge].bounds;
  const route = drawn.routes[edge];
  const bounds = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of route) {
    bounds[0] = Math.min(bounds[0], x);
    bounds[1] = Math.min(bounds[1], y);
    bounds[2] = Math.max(bounds[2], x);
    bounds[3] = Math.max(bounds[3], y);
  }
  return (edges[edge].bounds = bounds);
}

function inWindow(edge, window_) {
  const [left, top, right, bottom] = boundsOf(edge);
  return left < window_[2] && right > window_[0] && top - 4 < window_[3] && bottom + 4 > window_[1];
}

function paintEdges(window_, dim) {
  const { scale } = view;
  const far = scale < 0.12;
  const layers = [[], [], []]; // dimmed or plain, then lit, then the one under the pointer
  for (let edge = 0; edge < edges.length; edge++) {
    if (!edges[edge].seen || !inWindow(edge, window_)) continue;
    layers[edge === hoveredEdge ? 2 : edges[edge].mark && state.focused ? 1 : 0].push(edge);
  }
  // Far more lines than can be told apart are drawn faint, those that only pass by most of all.
  const count = layers[0].length;
  const crowd = count > 1500 && !dim ? 0.45 : 1;
  const passing = count > 150 && !dim ? Math.max(0.08, 45 / count) : crowd;
  layers.forEach((some, rank) => {
    if (rank === 0 && far) {
      paintFar(some, dim ? colours.faint : colours.edge, crowd);
      return;
    }
    for (const edge of some) {
      const { mark, type, links: all } = edges[edge];
      const style = LINE_STYLES[data.types[type]];
      const colour = rank === 2 ? colours.text
        : rank === 1 ? (mark & UP ? colours.up : colours.down)
          : dim ? colours.faint : colours.edge;
      const wide = (style.bold ? 1.9 : 1.2) + (rank ? 0.8 : 0) + Math.min(2.5, Math.log2(all.length) * 0.4);
      pen.strokeStyle = pen.fillStyle = colour;
      // What passes behind the rows of a block must not look like an edge between them.
      const quiet = rank === 0 && (drawn.inBlock[edges[edge].a] || drawn.inBlock[edges[edge].b]);
      const [left, , right] = boundsOf(edge);
      const passes = right - left > drawn.sizes.layerGap + drawn.sizes.width;
      pen.globalAlpha = edges[edge].alpha = rank ? 1 : quiet ? Math.min(0.3, passing) : passes ? passing : crowd;
      pen.lineWidth = Math.max(wide * Math.min(scale, 1), far ? 0.7 : 1) / scale;
      pen.setLineDash(style.dash.map((length) => length / Math.max(scale, 0.4)));
      pen.beginPath();
      edgePath(edge, far);
      pen.stroke();
      if (scale > 0.22 && !quiet && !(dim && rank === 0)) paintTip(edge, style);
    }
  });
  pen.globalAlpha = 1;
  pen.setLineDash([]);
}

// From very far: hairlines, all in one stroke.
function paintFar(some, colour, alpha) {
  pen.strokeStyle = colour;
  pen.globalAlpha = alpha;
  pen.lineWidth = 0.7 / view.scale;
  pen.setLineDash([]);
  for (let first = 0; first < some.length; first += 500) {
    pen.beginPath();
    for (const edge of some.slice(first, first + 500)) edgePath(edge, true);
    pen.stroke();
  }
}

function paintTip(edge, style) {
  const route = drawn.routes[edge];
  const [x, y] = route[route.length - 1];
  const back = route[route.length - 2][0] < x ? -1 : 1;
  const long = 8;
  pen.setLineDash([]);
  pen.beginPath();
  pen.moveTo(x + back * long, y - 4);
  pen.lineTo(x, y);
  pen.lineTo(x + back * long, y + 4);
  if (style.open) pen.stroke();
  else {
    pen.closePath();
    pen.fill();
  }
}

function paintItem(item, dim, labels) {
  const one = items[item];
  const [x, y, width, height] = boxOf(item);
  const { scale } = view;
  const lit = state.focused ? one.mark !== 0 : true;
  const found = state.searched && one.hits > 0;
  const faded = dim && !(state.focused && lit) && !found;
  const colour = colours[one.kind.toLowerCase()];
  const small = height * scale < 9;
  const radius = one.isStack ? 8 : height > 40 ? 9 : 6;
  const ring = one.mark & SELF && state.focused ? colours.self
    : found ? colours.self
      : state.focused && one.mark & UP ? colours.up
        : state.focused && one.mark & DOWN ? colours.down
          : item === hovered ? colours.soft : null;
  const isStart = !one.isStack && one.members[0] === data.start;
  pen.globalAlpha = faded ? 0.22 : 1;
  if (small) {
    // At least two pixels of it, in its own colour.
    const least = 2 / scale;
    pen.fillStyle = ring ?? (stateOf(one.members[0]) === "Failed" && !one.isStack ? colours.bad : colour);
    pen.fillRect(x, y, Math.max(width, least), Math.max(height, least));
    if (isStart) {
      pen.strokeStyle = colours.text;
      pen.lineWidth = 1.5 / scale;
      pen.strokeRect(x - 2 / scale, y - 2 / scale, width + 4 / scale, height + 4 / scale);
    }
    if (!faded) labels.push(item);
    pen.globalAlpha = 1;
    return;
  }
  if (one.isStack) {
    for (const shift of [6, 3]) rounded(x + shift, y + shift, width, height, radius, colours.card, colours.line, 1);
  }
  const failed = !one.isStack && stateOf(one.members[0]) === "Failed";
  rounded(x, y, width, height, radius, colours.card,
    ring ?? (isStart ? colour : failed ? colours.bad : colours.line),
    ring ? (one.mark & SELF && state.focused ? 2.6 : 2) : isStart ? 2 : 1);
  band(x, y, height, radius, colour);
  if (one.isStack) paintStack(one, x, y, width, height, colour);
  else if (height > 40) paintCard(one.members[0], x, y, width, height, colour);
  else paintStrip(one.members[0], x, y, width, height, colour);
  pen.globalAlpha = 1;
}

function rounded(x, y, width, height, radius, fill, stroke, wide) {
  pen.beginPath();
  pen.roundRect(x, y, width, height, radius);
  pen.fillStyle = fill;
  pen.fill();
  pen.strokeStyle = stroke;
  pen.lineWidth = Math.max(wide, wide * 0.6 / view.scale);
  pen.stroke();
}

function band(x, y, height, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.roundRect(x, y, 5, height, [radius, 0, 0, radius]);
  pen.fill();
}

function icon(type, kind, x, y, size, colour) {
  const shape = iconOf(type, kind);
  if (!paths.has(shape)) paths.set(shape, new Path2D(shape));
  pen.save();
  pen.translate(x, y);
  pen.scale(size / 16, size / 16);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.lineCap = pen.lineJoin = "round";
  pen.stroke(paths.get(shape));
  pen.restore();
}

// The state as of the time shown: what changed since then is not known.
function stateOf(node) {
  const entity = entities[node];
  return entity.modified <= state.until || state.until === Infinity ? entity.state : entity.state && "later";
}

function paintState(node, x, y, radius) {
  const name = stateOf(node);
  if (!name) return;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = pen.strokeStyle = colourOfState(name);
  if (name === "later") {
    pen.lineWidth = 1.2;
    pen.stroke();
    return;
  }
  pen.fill();
  // Not by colour alone: a cross for what failed.
  if (colourOfState(name) !== colours.bad) return;
  const arm = radius * 0.45;
  pen.strokeStyle = colours.card;
  pen.lineWidth = 1.4;
  pen.beginPath();
  pen.moveTo(x - arm, y - arm);
  pen.lineTo(x + arm, y + arm);
  pen.moveTo(x + arm, y - arm);
  pen.lineTo(x - arm, y + arm);
  pen.stroke();
}

function paintCard(node, x, y, width, height, colour) {
  const entity = entities[node];
  const version = versionOf(entity);
  pen.textBaseline = "alphabetic";
  if (view.scale > NEAR) {
    icon(entity.type, entity.kind, x + 13, y + 8, 15, colour);
    const room = width - 33 - 26;
    pen.font = `500 11.5px ${FONT}`;
    pen.fillStyle = colour;
    const suffix = version ? ` · ${version}` : "";
    pen.fillText(fitted(entity.type, room - pen.measureText(suffix).width) + suffix, x + 33, y + 20);
    paintState(node, x + width - 14, y + 15.5, 5);
    pen.font = `600 13.5px ${FONT}`;
    pen.fillStyle = colours.text;
    const lines = wrapped(nameOf(node), width - 26);
    lines.forEach((line, at) => pen.fillText(line, x + 14, y + (lines.length > 1 ? 38 + 16 * at : 45)));
    return;
  }
  // From afar the letters grow, as far as three lines have room, then two, then one.
  const size = Math.min(34, 10.5 / view.scale);
  pen.textBaseline = "middle";
  const rows = size < 19 ? 3 : size < 27 ? 2 : 1;
  if (rows > 1) {
    pen.font = `500 ${size * 0.92}px ${FONT}`;
    pen.fillStyle = colour;
    const suffix = version ? ` ${version}` : "";
    pen.fillText(begun(entity.type, width - 34 - pen.measureText(suffix).width) + suffix,
      x + 13, y + height * (rows === 3 ? 0.2 : 0.28));
  }
  pen.font = `600 ${size}px ${FONT}`;
  pen.fillStyle = colours.text;
  const name = nameOf(node);
  const lines = rows === 3 ? wrapped(name, width - 19) : [fitted(name, width - (rows === 2 ? 19 : 34))];
  const first = lines.length === 2 ? 0.51 : rows === 1 ? 0.5 : rows === 2 ? 0.7 : 0.64;
  lines.forEach((line, at) => pen.fillText(line, x + 13, y + height * (first + 0.29 * at)));
  paintState(node, x + width - 14, y + 15, 7);
}

function paintStrip(node, x, y, width, height, colour) {
  const entity = entities[node];
  const hasState = stateOf(node) !== "";
  let left = x + 11;
  const near = view.scale > NEAR;
  if (near) {
    icon(entity.type, entity.kind, x + 10, y + height / 2 - 7, 14, colour);
    left = x + 30;
  }
  if (height * view.scale >= 12) {
    const size = near ? 12 : Math.min(20, Math.max(12, 9.5 / view.scale));
    pen.textBaseline = "middle";
    const version = near ? versionOf(entity) : "";
    let room = width - (left - x) - (hasState ? 22 : 9);
    if (version) {
      pen.font = `500 10.5px ${FONT}`;
      pen.fillStyle = colours.soft;
      const wide = pen.measureText(version).width;
      pen.fillText(version, x + width - wide - (hasState ? 22 : 9), y + height / 2 + 0.5);
      room -= wide + 6;
    }
    pen.font = `550 ${size}px ${FONT}`;
    pen.fillStyle = colours.text;
    pen.fillText(fitted(nameOf(node), room), left, y + height / 2 + 0.5);
  }
  if (hasState) paintState(node, x + width - 12, y + height / 2, near ? 4.5 : 6);
}

function paintStack(one, x, y, width, height, colour) {
  const total = one.members.length;
  const number = state.focused && one.mark ? one.members.filter((node) => marks[node] && isThere(node)).length
    : state.searched && one.hits ? one.hits : one.seen;
  const label = number === total ? `× ${total.toLocaleString("en")}` : `${number.toLocaleString("en")} of ${total.toLocaleString("en")}`;
  const near = view.scale > NEAR;
  const size = Math.min(30, near ? 13 : 10.5 / view.scale);
  const two = height > 2.1 * size;
  pen.textBaseline = "middle";
  if (near) icon(one.type, one.kind, x + 14, y + height / 2 - 9, 18, colour);
  const left = x + (near ? 40 : 13);
  const room = width - (left - x) - 10;
  pen.font = `600 ${size}px ${FONT}`;
  pen.fillStyle = colours.text;
  if (!two) {
    const count = ` × ${number.toLocaleString("en")}`;
    pen.fillText(begun(one.type, room - pen.measureText(count).width) + count, left, y + height / 2);
    return;
  }
  pen.fillText(begun(one.type, room), left, y + height * 0.3);
  pen.font = `500 ${size * 0.9}px ${FONT}`;
  pen.fillStyle = colours.soft;
  pen.fillText(label, left, y + height * 0.72);
  const bad = one.members.filter((node) => isThere(node) && colourOfState(stateOf(node)) === colours.bad).length;
  if (!bad) return;
  const note = `${bad.toLocaleString("en")} failed`;
  const wide = pen.measureText(note).width;
  if (wide + pen.measureText(label).width + 8 > room) return;
  pen.fillStyle = colours.bad;
  pen.fillText(note, x + width - wide - 10, y + height * 0.72);
}

// Names beside what is too small to hold them: the most important first, none over another.
function paintLabels(candidates, texts) {
  const rank = (item) => {
    const one = items[item];
    return (item === hovered || one.mark & SELF ? 1e9 : 0) + (one.members[0] === data.start ? 1e8 : 0) +
      (one.hits && state.searched ? 1e7 : 0) + (one.isStack ? 1000 + one.members.length : 0) +
      upstream[one.members[0]].length + downstream[one.members[0]].length + (item * 0.618) % 1;
  };
  const taken = [];
  const onScreen = (item) => {
    const [x, y, width, height] = boxOf(item);
    return [x * view.scale + view.x, y * view.scale + view.y,
      (x + width) * view.scale + view.x, (y + height) * view.scale + view.y];
  };
  const written = texts.slice(0, 600).map(onScreen);
  const meets = (box, others, room) => others.some((other) => box[0] - room < other[2] && box[2] + room > other[0] &&
    box[1] - room < other[3] && box[3] + room > other[1]);
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  for (const item of candidates.sort((a, b) => rank(b) - rank(a)).slice(0, 400)) {
    if (taken.length >= 40) break;
    const one = items[item];
    const [left, top, right, bottom] = onScreen(item);
    pen.font = `600 11px ${FONT}`;
    const text = one.isStack ? `${one.type} × ${one.seen.toLocaleString("en")}` : fitted(nameOf(one.members[0]), 150);
    const half = pen.measureText(text).width / 2 + 4;
    const centre = Math.min(Math.max((left + right) / 2, half), Math.max(half, view.width - half));
    const isFirst = rank(item) > 1e7;
    // Names of no special weight keep more distance; below, above, or not at all.
    const isWeighty = rank(item) > 1000;
    const free = [bottom + 9, top - 9].find((y) => {
      const box = [centre - half, y - 8, centre + half, y + 8];
      return !meets(box, taken, isWeighty ? 0 : 26) && (isFirst || !meets(box, written, 0));
    });
    if (free === undefined) continue;
    const box = [centre - half, free - 8, centre + half, free + 8];
    taken.push(box);
    pen.strokeStyle = colours.ground;
    pen.lineWidth = 4;
    pen.strokeText(text, centre - half + 4, free);
    pen.fillStyle = colours.text;
    pen.fillText(text, centre - half + 4, free);
  }
  labelBoxes = taken;
}
let labelBoxes = [];

// The text cut in the middle to a width in the font of the pen: names differ at their ends.
const cuts = new Map();
function fitted(text, room) {
  const key = `${pen.font}|${Math.round(room)}|${text}`;
  let cut = cuts.get(key);
  if (cut !== undefined) return cut;
  cut = text;
  if (pen.measureText(text).width > room) {
    const letters = [...text.slice(0, 400)];
    const tail = [...text.slice(-400)];
    let low = 0, high = Math.min(letters.length, 200);
    while (low < high) {
      const keep = (low + high + 1) >> 1;
      if (pen.measureText(joinedEnds(letters, tail, keep)).width <= room) low = keep;
      else high = keep - 1;
    }
    cut = low ? joinedEnds(letters, tail, low) : "…";
  }
  if (cuts.size > 60000) cuts.clear();
  cuts.set(key, cut);
  return cut;
}

// As much of the beginning as there is room for: types differ there.
function begun(text, room) {
  let cut = text;
  for (let keep = text.length - 1; keep > 0 && pen.measureText(cut).width > room; keep--) {
    cut = `${text.slice(0, keep)}…`;
  }
  return cut;
}

function joinedEnds(letters, tail, keep) {
  const end = Math.floor(keep / 2);
  return `${letters.slice(0, keep - end).join("")}…${end ? tail.slice(-end).join("") : ""}`;
}

// One line or two, broken after the last mark that leaves no stub before or behind.
function wrapped(text, room) {
  if (pen.measureText(text).width <= room) return [text];
  const letters = [...text.slice(0, 200)];
  let most = letters.length;
  while (most > 1 && pen.measureText(letters.slice(0, most).join("")).width > room) most--;
  let cut = most;
  for (let at = most; at > most / 3; at--) {
    if (" -_./:@".includes(letters[at - 1]) && at <= [...text].length - 3) {
      cut = at;
      break;
    }
  }
  return [letters.slice(0, cut).join(""), fitted([...text].slice(cut).join(""), room)];
}

// The small map: painted anew when the drawing changes, with the window over it.
const map = document.getElementById("map");
const mapPen = map.getContext("2d");
let mapImage = null;
function paintMap() {
  if (map.classList.contains("idle")) return;
  const wide = 200, high = 130, ratio = view.ratio;
  if (!mapImage) {
    map.width = wide * ratio;
    map.height = high * ratio;
    mapImage = document.createElement("canvas");
    mapImage.width = map.width;
    mapImage.height = map.height;
    const ink = mapImage.getContext("2d");
    const [scale, x, y] = mapScale();
    ink.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    const least = 1.6 / scale;
    for (let item = 0; item < items.length; item++) {
      const one = items[item];
      if (!one.seen) continue;
      const [left, top, width, height] = boxOf(item);
      const lit = state.focused ? one.mark : state.searched ? one.hits : 1;
      ink.globalAlpha = lit ? 1 : 0.2;
      ink.fillStyle = state.focused && one.mark & UP ? colours.up : state.focused && one.mark & DOWN ? colours.down
        : colours[one.kind.toLowerCase()];
      ink.fillRect(left, top, Math.max(width, least), Math.max(height, least));
    }
  }
  mapPen.setTransform(1, 0, 0, 1, 0, 0);
  mapPen.clearRect(0, 0, map.width, map.height);
  mapPen.drawImage(mapImage, 0, 0);
  const [scale, x, y] = mapScale();
  mapPen.setTransform(ratio, 0, 0, ratio, 0, 0);
  mapPen.strokeStyle = colours.self;
  mapPen.lineWidth = 1.5;
  mapPen.strokeRect(x - view.x / view.scale * scale, y - view.y / view.scale * scale,
    view.width / view.scale * scale, view.height / view.scale * scale);
}

function mapScale() {
  const scale = Math.min(188 / drawn.width, 118 / drawn.height);
  return [scale, (200 - drawn.width * scale) / 2, (130 - drawn.height * scale) / 2];
}

function itemAt(x, y) {
  const a = (x - view.x) / view.scale, b = (y - view.y) / view.scale;
  for (let item = items.length - 1; item >= 0; item--) {
    if (!items[item].seen) continue;
    const [left, top, width, height] = boxOf(item);
    if (a >= left && a <= left + width && b >= top && b <= top + height) return item;
  }
  return -1;
}

function edgeAt(x, y) {
  const a = (x - view.x) / view.scale, b = (y - view.y) / view.scale;
  const reach = 6 / view.scale;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  for (let edge = edges.length - 1; edge >= 0; edge--) {
    if (!edges[edge].seen) continue;
    const [left, top, right, bottom] = boundsOf(edge);
    if (a < left - reach || a > right + reach || b < top - reach || b > bottom + reach) continue;
    pen.beginPath();
    edgePath(edge, false);
    pen.setLineDash([]);
    pen.lineWidth = 2 * reach;
    if (pen.isPointInStroke(a, b)) return edge;
  }
  return -1;
}
