// The graph of the page: entities, links, what is folded into stacks, and what is seen.
const data = JSON.parse(document.getElementById("data").textContent);
const entities = data.entities;
const links = data.associations; // [source, destination, place in data.types]
const upstream = entities.map(() => []);
const downstream = entities.map(() => []);
links.forEach(([source, destination], link) => {
  upstream[destination].push(link);
  downstream[source].push(link);
});
const layerOf = layersOf(entities.length, links);
const typeOf = entities.map((entity) => `${entity.kind} ${entity.type}`);

const TIDY = 400; // a first view has about so many nodes at most
const state = {
  folded: new Set(), // keys of stacks
  apart: new Set(data.start >= 0 ? [data.start] : []), // entities that stay out of stacks
  hiddenTypes: new Set(), // of associations
  basis: "created",
  until: Infinity,
  kept: -1, // item that was clicked
  hits: new Set(),
  searched: false,
};
const UP = 1, DOWN = 2, SELF = 4;
let items = [], edges = [], itemOf = [], drawn = null;
let marks = new Uint8Array(entities.length);

function stackKey(node) {
  return `${layerOf[node]} ${typeOf[node]}`;
}

function isThere(node) {
  return state.until === Infinity || entities[node][state.basis] <= state.until;
}

// Fold the largest groups of one type and layer until the whole can be read.
function tidy() {
  if (entities.length <= TIDY) return;
  const sizes = new Map();
  entities.forEach((_, node) => {
    if (!state.apart.has(node)) sizes.set(stackKey(node), (sizes.get(stackKey(node)) ?? 0) + 1);
  });
  let count = entities.length, last = Infinity;
  for (const [key, size] of [...sizes].sort((a, b) => b[1] - a[1])) {
    // Groups of one size are treated alike.
    if (size < 2 || (count <= TIDY && size < last)) break;
    state.folded.add(key);
    count -= size - 1;
    last = size;
  }
}

// What is drawn: entities and stacks, and one edge for all links of a type between two of them.
function regroup() {
  const kept = items[state.kept]?.members[0] ?? -1;
  const stacks = new Map();
  items = [];
  itemOf = new Array(entities.length);
  for (let node = 0; node < entities.length; node++) {
    const key = stackKey(node);
    const isStack = state.folded.has(key) && !state.apart.has(node);
    let item = isStack ? stacks.get(key) : undefined;
    if (item === undefined) {
      item = items.length;
      items.push({ members: [], isStack, key, layer: layerOf[node], kind: entities[node].kind,
        type: entities[node].type, seen: 0, mark: 0, hits: 0 });
      if (isStack) stacks.set(key, item);
    }
    items[item].members.push(node);
    itemOf[node] = item;
  }
  const known = new Map();
  edges = [];
  links.forEach(([source, destination, type], link) => {
    const a = itemOf[source], b = itemOf[destination];
    if (a === b) return;
    const key = (a * items.length + b) * data.types.length + type;
    let edge = known.get(key);
    if (edge === undefined) {
      known.set(key, edge = edges.length);
      edges.push({ a, b, type, links: [], seen: 0, mark: 0 });
    }
    edges[edge].links.push(link);
  });
  const many = items.length > 70;
  drawn = layOut(items, edges, many ? STRIPS : CARDS);
  drawn.sizes = many ? STRIPS : CARDS;
  state.kept = kept >= 0 ? itemOf[kept] : -1;
}

// How much of each item and edge is seen, found and on the path.
function recount() {
  for (const item of items) {
    item.seen = item.mark = item.hits = 0;
    for (const node of item.members) {
      if (!isThere(node)) continue;
      item.seen++;
      item.mark |= marks[node];
      if (state.hits.has(node)) item.hits++;
    }
  }
  for (const edge of edges) {
    edge.seen = edge.mark = 0;
    if (state.hiddenTypes.has(edge.type)) continue;
    for (const link of edge.links) {
      const [source, destination] = links[link];
      if (!isThere(source) || !isThere(destination)) continue;
      edge.seen++;
      // A link is on the way up when what it leads to is, and the start of a walk is on both.
      if (marks[destination] & (UP | SELF) && marks[source] & UP) edge.mark |= UP;
      if (marks[source] & (DOWN | SELF) && marks[destination] & DOWN) edge.mark |= DOWN;
    }
  }
}

function walk(starts, links_of, end, bit) {
  const seen = new Set(starts);
  const waiting = [...starts];
  while (waiting.length) {
    for (const link of links_of[waiting.pop()]) {
      if (state.hiddenTypes.has(links[link][2])) continue;
      const next = links[link][end];
      if (!isThere(next)) continue;
      marks[next] |= bit;
      if (seen.has(next)) continue;
      seen.add(next);
      waiting.push(next);
    }
  }
  return seen.size - starts.length;
}

// Mark what an item comes from and what comes from it; returns how many of each.
function follow(item) {
  marks = new Uint8Array(entities.length);
  if (item < 0) return [0, 0];
  const starts = items[item].members.filter(isThere);
  for (const node of starts) marks[node] |= SELF;
  return [walk(starts, upstream, 0, UP), walk(starts, downstream, 1, DOWN)];
}

function versionOf(entity) {
  return entity.kind === "Artifact" || entity.version > 1 ? `v${entity.version}` : "";
}

// A name that several entities of a type share is told apart by the folder before it.
const sharing = new Map();
const called = ({ type, name }) => `${type} ${name}`;
for (const entity of entities) sharing.set(called(entity), (sharing.get(called(entity)) ?? 0) + 1);
const namesOf = entities.map((entity) => {
  const { name, source_uri: uri } = entity;
  if (sharing.get(called(entity)) === 1 || !uri.endsWith(`/${name}`)) return name;
  const folder = uri.slice(0, -name.length - 1).split("/").pop();
  return folder ? `${folder}/${name}` : name;
});

function nameOf(node) {
  return namesOf[node];
}
