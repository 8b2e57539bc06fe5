// What stands round the drawing: details, legend, search and time. Everything from the graph
// enters as text, never as markup.
const details = document.getElementById("details");
const say = document.getElementById("say");

function text(name, content, className) {
  const element = document.createElement(name);
  element.textContent = content;
  if (className) element.className = className;
  return element;
}

function button(content, action, className) {
  const element = text("button", content, className);
  element.type = "button";
  element.addEventListener("click", action);
  return element;
}

function picture(type, kind) {
  const name = "http://www.w3.org/2000/svg";
  const element = document.createElementNS(name, "svg");
  element.setAttribute("viewBox", "0 0 16 16");
  const path = document.createElementNS(name, "path");
  path.setAttribute("d", iconOf(type, kind));
  element.append(path);
  return element;
}

function when(us) {
  return us ? new Date(us / 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC" : "";
}

function describe(item, above, below) {
  const one = items[item];
  const close = button("×", () => keep(-1), "close");
  close.title = "Close (Esc)";
  details.replaceChildren(close);
  if (one.isStack) describeStack(one, above, below);
  else describeEntity(one.members[0], above, below);
  details.scrollTop = 0;
}

function describeStack(one, above, below) {
  const there = one.members.filter(isThere);
  details.append(
    text("h2", `${there.length.toLocaleString("en")} × ${one.type}`),
    text("p", `folded · ${one.kind}`, `what kind-${one.kind}`));
  const row = text("p", "", "actions");
  row.append(button("Unfold", () => unfold([one.key], one.members[0])));
  details.append(row);
  const counts = new Map();
  for (const node of there) {
    const name = stateOf(node);
    if (name) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  table([["upstream", `${above}`], ["downstream", `${below}`],
    ...[...counts].map(([name, number]) => [name === "later" ? "changed later" : name, `${number}`])]);
  details.append(text("h3", "entities"));
  const list = document.createElement("ul");
  for (const node of there.slice(0, 200)) list.append(entry(node, versionOf(entities[node])));
  details.append(list);
  if (there.length > 200) details.append(text("p", `and ${(there.length - 200).toLocaleString("en")} more; search finds them`, "more"));
}

function describeEntity(node, above, below) {
  const entity = entities[node];
  const version = versionOf(entity);
  details.append(
    text("h2", entity.name),
    text("p", `${entity.type} · ${entity.kind}${version ? ` · ${version}` : ""}`, `what kind-${entity.kind}`));
  const path = [...marks.keys()].filter((other) => marks[other] && items[itemOf[other]].isStack);
  const row = text("p", "", "actions");
  if (path.length) row.append(button(`Unfold its path (${path.length.toLocaleString("en")})`, () => pull(path, node)));
  const size = entities.filter((_, other) => typeOf[other] === typeOf[node]).length;
  if (size > 1) row.append(button(`Fold all ${size.toLocaleString("en")} of this type`, () => foldType(typeOf[node])));
  if (row.children.length) details.append(row);
  const given = { ...entity.properties };
  const failure = given.failure_reason;
  delete given.failure_reason;
  const name = stateOf(node);
  table([
    ["state", name === "later" ? `changed after this time (now ${entity.state})` : name], ["failure", failure ?? ""],
    ["uid", entity.uid, "code"], ["source", entity.source_uri, "code"],
    ["content", entity.content_hash, "code"], ["created", when(entity.created)],
    ["modified", when(entity.modified)], ["upstream", `${above}`], ["downstream", `${below}`],
  ]);
  for (const group_ of ["metrics", "parameters"]) {
    group(group_, given[group_]);
    delete given[group_];
  }
  neighbours("From", upstream[node], 0);
  neighbours("To", downstream[node], 1);
  columns("Columns from", columnsInto.get(node), 0, 1, 3);
  columns("Columns to", columnsFrom.get(node), 2, 3, 1);
  const isPlain = ([, value]) => value === null || typeof value !== "object";
  const rest = Object.entries(given);
  group("properties", Object.fromEntries(rest.filter(isPlain)));
  for (const [key, value] of rest.filter((one) => !isPlain(one))) {
    group(key, Array.isArray(value) ? { "": value } : value);
  }
}

function group(name, values) {
  if (values === null || values === undefined) return;
  const rows = typeof values === "object" && !Array.isArray(values) ? Object.entries(values) : [["", values]];
  if (!rows.length) return;
  details.append(text("h3", name.replaceAll("_", " ")));
  table(rows.map(([key, value]) => [key, shown(key, value)]));
}

function shown(name, value) {
  if (name.endsWith("_us") && Number.isInteger(value)) return when(value);
  if (typeof value === "string") return value;
  const whole = JSON.stringify(value);
  return whole.length < 60 ? whole.replace(/[{}"[\]]/g, "").replace(/([,:])/g, "$1 ")
    : JSON.stringify(value, null, 1);
}

function table(rows) {
  const list = document.createElement("dl");
  for (const [name, value, className] of rows) {
    if (value === "" || value === undefined) continue;
    const cell = text("dd", "", className);
    cell.append(text("pre", value));
    list.append(text("dt", name), cell);
  }
  if (list.children.length) details.append(list);
}

function neighbours(title, through, end) {
  const there = through.filter((link) => isThere(links[link][end]));
  if (!there.length) return;
  details.append(text("h3", `${title}${there.length > 8 ? ` (${there.length.toLocaleString("en")})` : ""}`));
  const list = document.createElement("ul");
  for (const link of there.slice(0, 100)) list.append(entry(links[link][end], data.types[links[link][2]]));
  details.append(list);
  if (there.length > 100) details.append(text("p", `and ${(there.length - 100).toLocaleString("en")} more`, "more"));
}

// Which columns went into which, by the entities at both ends.
const columnsInto = new Map(), columnsFrom = new Map();
for (const edge of data.columns) {
  for (const [edges_, node] of [[columnsFrom, edge[0]], [columnsInto, edge[2]]]) {
    if (!edges_.has(node)) edges_.set(node, []);
    edges_.get(node).push(edge);
  }
}

// Rows of: own column, the entity at the other end with its column, how.
function columns(title, found, other, theirs, own) {
  const there = (found ?? []).filter((edge) => isThere(edge[other]));
  if (!there.length) return;
  details.append(text("h3", `${title}${there.length > 8 ? ` (${there.length.toLocaleString("en")})` : ""}`));
  const list = document.createElement("ul");
  list.className = "columns";
  for (const edge of there.slice(0, 200)) {
    const item = entry(edge[other], edge[4]);
    const arrow = other === 0 ? "←" : "→";
    item.querySelector("span").textContent =
      `${edge[own] || "every row"} ${arrow} ${nameOf(edge[other])}${edge[theirs] ? `.${edge[theirs]}` : ""}`;
    if (edge[5]) item.title = edge[5];
    list.append(item);
  }
  details.append(list);
  if (there.length > 200) details.append(text("p", `and ${(there.length - 200).toLocaleString("en")} more`, "more"));
}

function entry(node, note) {
  const item = document.createElement("li");
  const one = button("", () => goTo(node));
  one.append(text("span", nameOf(node)), text("small", note));
  item.append(one);
  return item;
}

// The legend: types to find and to fold, states to find, associations to hide.
const typeCounts = new Map();
for (const what of typeOf) typeCounts.set(what, (typeCounts.get(what) ?? 0) + 1);
const stateCounts = new Map();
for (const { state: name } of entities) if (name) stateCounts.set(name, (stateCounts.get(name) ?? 0) + 1);
const folders = new Map();
let pressed = null;

function legend() {
  const types = document.getElementById("types");
  for (const [what, number] of [...typeCounts].sort()) {
    const space = what.indexOf(" ");
    const kind = what.slice(0, space), type = what.slice(space + 1);
    const item = text("li", "", `kind-${kind}`);
    const find = finder(item, (node) => typeOf[node] === what, type, number);
    find.prepend(picture(type, kind));
    find.dataset.what = what;
    const fold = button("", () => foldType(what), "fold");
    fold.dataset.fold = what;
    folders.set(what, fold);
    item.append(find, fold);
    types.append(item);
  }
  const states = document.getElementById("states");
  for (const [name, number] of [...stateCounts].sort()) {
    const item = document.createElement("li");
    const find = finder(item, (node) => stateOf(node) === name, name, number);
    const dot = text("i", colourOfState(name) === colours.bad ? "×" : "", "dot");
    dot.dataset.state = name;
    find.prepend(dot);
    item.append(find);
    states.append(item);
  }
  document.getElementById("states-title").hidden = !stateCounts.size;
  const kinds = document.getElementById("links");
  data.types.forEach((name, type) => {
    const number = links.filter((link) => link[2] === type).length;
    const item = document.createElement("li");
    const hide = button("", () => {
      const isShown = state.hiddenTypes.has(type);
      if (isShown) state.hiddenTypes.delete(type);
      else state.hiddenTypes.add(type);
      hide.setAttribute("aria-pressed", isShown);
      refocus();
    });
    hide.setAttribute("aria-pressed", true);
    hide.dataset.link = name;
    hide.title = "Show or hide these lines";
    hide.append(sample(LINE_STYLES[name]), text("span", name), text("b", number.toLocaleString("en")));
    item.append(hide);
    kinds.append(item);
  });
}

function finder(item, matches, name, number) {
  const find = button("", () => {
    const on = pressed !== find;
    document.getElementById("search").value = "";
    press(on ? find : null);
    mark(on ? matches : null);
    listFound(null);
  }, "find");
  find.title = `Find ${name}`;
  find.setAttribute("aria-pressed", false);
  find.append(text("span", name), text("b", number.toLocaleString("en")));
  return find;
}

function press(one) {
  pressed?.setAttribute("aria-pressed", false);
  pressed = one;
  pressed?.setAttribute("aria-pressed", true);
}

function sample({ dash, open, bold }) {
  const name = "http://www.w3.org/2000/svg";
  const element = document.createElementNS(name, "svg");
  element.setAttribute("viewBox", "0 0 34 10");
  element.setAttribute("class", "sample");
  const line = document.createElementNS(name, "path");
  line.setAttribute("d", "M1 5H30");
  if (dash.length) line.setAttribute("stroke-dasharray", dash.join(" "));
  line.setAttribute("stroke-width", bold ? 2.2 : 1.4);
  const tip = document.createElementNS(name, "path");
  tip.setAttribute("d", open ? "M26 1.5 33 5 26 8.5" : "M26 1.5 33 5 26 8.5z");
  tip.setAttribute("class", open ? "open" : "tip");
  element.append(line, tip);
  return element;
}

function showFolds() {
  const foldedTypes = new Map();
  for (const item of items) {
    if (item.isStack) foldedTypes.set(`${item.kind} ${item.type}`, true);
  }
  for (const [what, fold] of folders) {
    const isFolded = foldedTypes.has(what);
    fold.textContent = isFolded ? "⊞" : "⊟";
    fold.title = isFolded ? "Unfold this type" : "Fold this type";
    fold.setAttribute("aria-label", fold.title);
    fold.setAttribute("aria-pressed", isFolded);
  }
  const all = document.getElementById("all");
  all.hidden = !foldedTypes.size;
}

// Search.
const search = document.getElementById("search");
const hits = document.getElementById("hits");
const foundList = document.getElementById("found");
const haystack = entities.map((entity) => [
  entity.name, entity.type, entity.kind, entity.uid, entity.source_uri, entity.state, entity.content_hash,
].join("\n").toLowerCase());
let found = [], at = -1;

function mark(matches) {
  found = matches ? entities.map((_, node) => node).filter((node) => isThere(node) && matches(node)) : [];
  at = -1;
  state.hits = new Set(found);
  state.searched = matches !== null;
  hits.textContent = matches ? found.length.toLocaleString("en") : "";
  refresh();
}

function seek() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  mark(words.length ? (node) => words.every((word) => haystack[node].includes(word)) : null);
  listFound(words.length ? found : null);
}

function listFound(nodes) {
  foundList.hidden = !nodes;
  search.setAttribute("aria-expanded", Boolean(nodes));
  foundList.replaceChildren();
  if (!nodes) return;
  for (const node of nodes.slice(0, 50)) {
    const entity = entities[node];
    const item = document.createElement("li");
    item.setAttribute("role", "option");
    item.className = `kind-${entity.kind}`;
    item.append(picture(entity.type, entity.kind), text("span", nameOf(node)),
      text("small", `${entity.type} ${versionOf(entity)}`));
    item.addEventListener("click", () => {
      goTo(node);
      listFound(null);
    });
    foundList.append(item);
  }
  if (!nodes.length) foundList.append(text("li", "nothing found", "none"));
  if (nodes.length > 50) foundList.append(text("li", `and ${(nodes.length - 50).toLocaleString("en")} more`, "none"));
}

function nextHit(step) {
  if (!found.length) return;
  at = at < 0 ? (step > 0 ? 0 : found.length - 1) : (at + step + found.length) % found.length;
  hits.textContent = `${at + 1}/${found.length}`;
  goTo(found[at]);
  listFound(null);
}

// Time: steps through the moments at which anything was recorded.
const until = document.getElementById("until");
let moments = [], playing = 0;

function timeline() {
  moments = [...new Set(entities.map((entity) => entity[state.basis]))].sort((a, b) => a - b);
  if (moments[0] === 0) moments.shift();
  document.getElementById("time").hidden = moments.length < 2;
  until.max = moments.length - 1;
  until.value = moments.length - 1;
  setTime(moments.length - 1);
}

function setTime(place) {
  const isEnd = place >= moments.length - 1;
  state.until = isEnd ? Infinity : moments[place];
  if (state.kept >= 0 && !items[state.kept].members.some(isThere)) keep(-1);
  const there = isEnd ? entities.length : entities.filter((_, node) => isThere(node)).length;
  document.getElementById("at").textContent = moments.length < 2 ? ""
    : `${isEnd ? "now" : `as of ${when(moments[place])}`} · ${there.toLocaleString("en")} of ${entities.length.toLocaleString("en")}`;
  refocus();
  bars();
}

function step(by) {
  until.value = Number(until.value) + by;
  setTime(Number(until.value));
}

function play() {
  const stop = playing !== 0;
  clearInterval(playing);
  playing = 0;
  document.getElementById("play").textContent = stop ? "▶" : "❚❚";
  if (stop) return;
  if (Number(until.value) >= moments.length - 1) until.value = 0;
  setTime(Number(until.value));
  const stride = Math.max(1, Math.round(moments.length / 120));
  playing = setInterval(() => {
    step(stride);
    if (Number(until.value) >= moments.length - 1) play();
  }, 100);
}

// How much was recorded at each moment, behind the slider.
function bars() {
  const element = document.getElementById("bars");
  const box = element.getBoundingClientRect();
  if (!box.width) return;
  element.width = box.width * view.ratio;
  element.height = box.height * view.ratio;
  const ink = element.getContext("2d");
  ink.scale(view.ratio, view.ratio);
  const place = new Map(moments.map((moment, rank) => [moment, rank]));
  const slots = Math.min(moments.length, Math.floor(box.width / 3));
  const counts = new Array(slots).fill(0);
  for (const entity of entities) {
    const rank = place.get(entity[state.basis]) ?? 0;
    counts[Math.min(slots - 1, Math.floor(rank / moments.length * slots))]++;
  }
  const most = Math.max(...counts);
  const here = Number(until.value) / Math.max(1, moments.length - 1);
  counts.forEach((number, slot) => {
    if (!number) return;
    const high = Math.max(2, Math.sqrt(number / most) * box.height);
    ink.fillStyle = slot / Math.max(1, slots - 1) <= here + 1e-9 ? colours.self : colours.line;
    ink.globalAlpha = 0.55;
    const wide = Math.min(5, Math.max(1, box.width / slots - 1));
    ink.fillRect(slot / Math.max(1, slots - 1) * (box.width - wide), box.height - high, wide, high);
  });
}
