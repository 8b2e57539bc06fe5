// A layered left-to-right layout, after Sugiyama, Tagawa and Toda (1981): break cycles, put each
// node on a layer, order the layers for few crossings, choose heights. A long edge passes the
// layers between on points of its own, which edges from the same source share.
const CARDS = { width: 180, height: 64, stack: 64, layerGap: 46, columnGap: 26, nodeGap: 20,
  lineGap: 16, rows: 24 };
const STRIPS = { width: 200, height: 28, stack: 46, layerGap: 110, columnGap: 26, nodeGap: 12,
  lineGap: 7, rows: 32 };
const MOST_POINTS = 30000;
const LINE_WEIGHT = 6; // a passing line resists being moved more than a node, and stays straight

// The ends of the links, with those turned round that lead back on a depth-first walk.
function withoutCycles(count, links) {
  const leaving = Array.from({ length: count }, () => []);
  const entered = new Uint32Array(count);
  links.forEach(([source, destination], link) => {
    leaving[source].push(link);
    entered[destination]++;
  });
  const forward = links.map(([source, destination]) => [source, destination]);
  const order = [...Array(count).keys()].sort((a, b) => (entered[a] > 0) - (entered[b] > 0));
  const visit = new Uint8Array(count); // 1 while on the walk, 2 when done
  const next = new Uint32Array(count);
  for (const first of order) {
    if (visit[first]) continue;
    visit[first] = 1;
    const stack = [first];
    while (stack.length) {
      const node = stack[stack.length - 1];
      if (next[node] === leaving[node].length) {
        visit[node] = 2;
        stack.pop();
        continue;
      }
      const link = leaving[node][next[node]++];
      const destination = links[link][1];
      if (visit[destination] === 1) forward[link] = [destination, node];
      else if (!visit[destination]) {
        visit[destination] = 1;
        stack.push(destination);
      }
    }
  }
  return forward;
}

// A layer for each node: as far left as its sources allow, then near to what needs it.
function layersOf(count, links) {
  const after = Array.from({ length: count }, () => []);
  const before = new Uint32Array(count);
  for (const [source, destination] of withoutCycles(count, links)) {
    after[source].push(destination);
    before[destination]++;
  }
  const waiting = before.slice();
  const order = [];
  const layer = new Int32Array(count);
  for (let node = 0; node < count; node++) if (!waiting[node]) order.push(node);
  for (const node of order) {
    for (const destination of after[node]) {
      layer[destination] = Math.max(layer[destination], layer[node] + 1);
      if (!--waiting[destination]) order.push(destination);
    }
  }
  for (const node of order.reverse()) {
    if (after[node].length > before[node]) {
      layer[node] = Math.min(...after[node].map((other) => layer[other])) - 1;
    }
  }
  return layer;
}

// Places (upper left corners) of the items and routes of the edges.
function layOut(items, edges, sizes) {
  const heightOf = items.map((item) => (item.isStack ? sizes.stack : sizes.height));
  const x = new Float64Array(items.length), y = new Float64Array(items.length);
  const routes = new Array(edges.length);
  const { parts, single } = partsOf(items.length, edges);
  const boxes = parts.map((part) => layOutPart(part, items, edges, heightOf, sizes));
  if (single.length) boxes.push(grid(single, heightOf, sizes));
  const inBlock = new Uint8Array(items.length);
  let width = 0, height = 0;
  for (const [box, left, top] of packed(boxes, sizes)) {
    for (const [node, a, b] of box.places) {
      x[node] = left + a;
      y[node] = top + b;
    }
    for (const [edge, route] of box.routes) {
      routes[edge] = route.map(([a, b]) => [left + a, top + b]);
    }
    for (const node of box.blocks) inBlock[node] = 1;
    width = Math.max(width, left + box.width);
    height = Math.max(height, top + box.height);
  }
  return { x, y, heightOf, routes, inBlock, width, height };
}

// Boxes in rows, the tallest first.
function packed(boxes, sizes) {
  const gap = 3 * sizes.nodeGap;
  boxes.sort((a, b) => b.height - a.height);
  const area = boxes.reduce((sum, box) => sum + (box.width + gap) * (box.height + gap), 0);
  const room = Math.max(...boxes.map((box) => box.width), Math.sqrt(area * 1.7), 0);
  const placed = [];
  let left = 0, top = 0, row = 0;
  for (const box of boxes) {
    if (left && left + box.width > room) {
      left = 0;
      top += row + gap;
      row = 0;
    }
    placed.push([box, left, top]);
    left += box.width + gap;
    row = Math.max(row, box.height);
  }
  return placed;
}

function grid(nodes, heightOf, sizes) {
  const down = sizes.stack + sizes.nodeGap, across = sizes.width + sizes.nodeGap;
  const columns = Math.max(Math.min(nodes.length, 4), Math.ceil(Math.sqrt(nodes.length * down / across * 1.7)));
  const places = nodes.map((node, place) => [
    node, place % columns * across, Math.floor(place / columns) * down]);
  return { places, routes: [], blocks: [], width: Math.min(columns, nodes.length) * across - sizes.nodeGap,
    height: Math.ceil(nodes.length / columns) * down - sizes.nodeGap };
}

// The connected parts, and the nodes without edges.
function partsOf(count, edges) {
  const touching = Array.from({ length: count }, () => []);
  edges.forEach(({ a, b }, edge) => {
    touching[a].push(edge);
    touching[b].push(edge);
  });
  const part = new Int32Array(count).fill(-1);
  const parts = [], single = [];
  for (let first = 0; first < count; first++) {
    if (!touching[first].length) single.push(first);
    if (part[first] >= 0 || !touching[first].length) continue;
    const nodes = [first], inside = [];
    part[first] = parts.length;
    for (const node of nodes) {
      for (const edge of touching[node]) {
        if (edges[edge].a === node) inside.push(edge);
        for (const end of [edges[edge].a, edges[edge].b]) {
          if (part[end] >= 0) continue;
          part[end] = parts.length;
          nodes.push(end);
        }
      }
    }
    parts.push({ nodes: nodes.sort((a, b) => a - b), inside: inside.sort((a, b) => a - b) });
  }
  return { parts, single };
}

function layOutPart({ nodes, inside }, items, edges, heightOf, sizes) {
  const used = [...new Set(nodes.map((node) => items[node].layer))].sort((a, b) => a - b);
  const place = new Map(used.map((layer, at) => [layer, at]));
  const number = new Map(nodes.map((node, at) => [node, at]));
  const count = nodes.length;
  const layer = nodes.map((node) => place.get(items[node].layer));
  const layers = used.map(() => []);
  layer.forEach((at, point) => layers[at].push(point));
  const left = nodes.map(() => []), right = nodes.map(() => []);
  const joined = new Set();
  const join = (a, b) => {
    const key = a * 2 ** 26 + b;
    if (joined.has(key)) return;
    joined.add(key);
    right[a].push(b);
    left[b].push(a);
  };
  const ahead = inside.map((edge) => {
    const a = number.get(edges[edge].a), b = number.get(edges[edge].b);
    return layer[a] < layer[b] ? [a, b] : [b, a];
  });
  const span = ahead.reduce((sum, [a, b]) => sum + layer[b] - layer[a] - 1, 0);
  const longest = span > MOST_POINTS ? 3 : Infinity;
  const shared = new Map();
  const chains = ahead.map(([a, b]) => {
    const chain = [];
    if (layer[b] - layer[a] > longest) return chain;
    let last = a;
    for (let at = layer[a] + 1; at < layer[b]; at++) {
      const key = a * used.length + at;
      let point = shared.get(key);
      if (point === undefined) {
        shared.set(key, point = layer.length);
        layer.push(at);
        layers[at].push(point);
        left.push([]);
        right.push([]);
      }
      join(last, point);
      chain.push(point);
      last = point;
    }
    join(last, b);
    return chain;
  });
  const ordered = order(layers, layer, left, right);
  const middle = heights(ordered, count, left, right, (point) => heightOf[nodes[point]], sizes);
  const places = [], spans = [], blocks = [];
  const across = new Float64Array(count);
  let at = 0, top = Infinity, bottom = -Infinity;
  for (const points of ordered) {
    const inLayer = points.filter((point) => point < count);
    const columns = columnsOf(inLayer.length, sizes);
    if (columns > 4) blocks.push(...inLayer.map((point) => nodes[point]));
    inLayer.forEach((point, rank) => {
      across[point] = at + rank % columns * (sizes.width + sizes.columnGap);
      const height = heightOf[nodes[point]];
      places.push([nodes[point], across[point], middle[point] - height / 2]);
      top = Math.min(top, middle[point] - height / 2);
      bottom = Math.max(bottom, middle[point] + height / 2);
    });
    for (const point of points) {
      top = Math.min(top, middle[point]);
      bottom = Math.max(bottom, middle[point]);
    }
    const end = at + columns * sizes.width + (columns - 1) * sizes.columnGap;
    spans.push([at, end]);
    at = end + sizes.layerGap;
  }
  for (const one of places) one[2] -= top;
  const routes = inside.map((edge, rank) => {
    const [a, b] = ahead[rank];
    const route = [[across[a] + sizes.width, middle[a] - top]];
    for (const point of chains[rank]) {
      for (const end of spans[layer[point]]) route.push([end, middle[point] - top]);
    }
    route.push([across[b], middle[b] - top]);
    return [edge, number.get(edges[edge].a) === a ? route : route.reverse()];
  });
  return { places, routes, blocks, width: at - sizes.layerGap, height: bottom - top };
}

function columnsOf(count, sizes) {
  if (count <= 12 * sizes.rows) return Math.max(1, Math.min(4, Math.ceil(count / sizes.rows)));
  return Math.ceil(Math.sqrt(count / sizes.rows * 4));
}

// Order each layer by the mean place of its neighbours, there and back, then swap neighbours.
function order(layers, layer, left, right) {
  const points = layer.length;
  const place = new Int32Array(points);
  const settle = (all) => all.forEach((one) => one.forEach((point, at) => { place[point] = at; }));
  // Start with what belongs together side by side: the order of a depth-first walk.
  const seen = new Uint8Array(points);
  let current = layers.map(() => []);
  for (const first of layers.flat()) {
    const stack = [first];
    while (stack.length) {
      const point = stack.pop();
      if (seen[point]) continue;
      seen[point] = 1;
      current[layer[point]].push(point);
      stack.push(...right[point].slice().reverse(), ...left[point]);
    }
  }
  settle(current);
  let best = current.map((one) => one.slice()), fewest = crossings(current, right, place);
  const sweeps = points > 12000 ? 4 : points > 3000 ? 10 : 24;
  const means = new Float64Array(points);
  for (let sweep = 0; sweep < sweeps && fewest; sweep++) {
    const near = sweep % 2 ? right : left;
    const all = sweep % 2 ? current.slice().reverse() : current;
    for (const one of all) {
      for (const point of one) {
        const others = near[point];
        let sum = 0;
        for (const other of others) sum += place[other];
        means[point] = others.length ? sum / others.length : place[point];
      }
      one.sort((a, b) => means[a] - means[b] || place[a] - place[b]);
      one.forEach((point, at) => { place[point] = at; });
    }
    const found = crossings(current, right, place);
    if (found < fewest) {
      best = current.map((one) => one.slice());
      fewest = found;
    }
  }
  settle(best);
  if (fewest && points <= 1500) swapNeighbours(best, left, right, place);
  return best;
}

function crossings(layers, right, place) {
  let total = 0;
  for (let at = 0; at + 1 < layers.length; at++) {
    const tree = new Int32Array(layers[at + 1].length + 1);
    let seen = 0;
    for (const point of layers[at]) {
      const ends = right[point].map((other) => place[other]).sort((a, b) => a - b);
      for (const end of ends) {
        let before = 0;
        for (let spot = end + 1; spot; spot &= spot - 1) before += tree[spot];
        total += seen - before;
        seen++;
        for (let spot = end + 1; spot < tree.length; spot += spot & -spot) tree[spot]++;
      }
    }
  }
  return total;
}

function swapNeighbours(layers, left, right, place) {
  const crossed = (upper, lower) => {
    let total = 0;
    for (const a of upper) for (const b of lower) total += place[a] > place[b];
    return total;
  };
  for (let round = 0, improved = true; improved && round < 8; round++) {
    improved = false;
    for (const layer of layers) {
      for (let at = 0; at + 1 < layer.length; at++) {
        const upper = layer[at], lower = layer[at + 1];
        if (left[upper].length * left[lower].length + right[upper].length * right[lower].length > 4000) continue;
        const gain = crossed(left[upper], left[lower]) - crossed(left[lower], left[upper]) +
          crossed(right[upper], right[lower]) - crossed(right[lower], right[upper]);
        if (gain <= 0) continue;
        layer[at] = lower;
        layer[at + 1] = upper;
        place[upper] = at + 1;
        place[lower] = at;
        improved = true;
      }
    }
  }
}

// The height of the middle of each point: near its neighbours, in order, apart.
function heights(layers, count, left, right, heightOf, sizes) {
  const points = left.length;
  const middle = new Float64Array(points);
  const plans = layers.map((layer) => {
    const nodes = layer.filter((point) => point < count);
    const columns = columnsOf(nodes.length, sizes);
    const plan = columns > 4
      ? block(layer, nodes, columns, heightOf, sizes)
      : { block: false, ordered: layer, gaps: gaps(layer, count, columns, heightOf, sizes) };
    let y = -plan.gaps.reduce((sum, gap) => sum + gap, 0) / 2;
    plan.ordered.forEach((point, at) => {
      middle[point] = y;
      y += plan.gaps[at] ?? 0;
    });
    plan.weights = plan.ordered.map((point) => (point < count ? 1 : LINE_WEIGHT));
    return plan;
  });
  const settle = (at, near) => {
    const { ordered, gaps, weights } = plans[at];
    const wishes = ordered.map((point) => {
      const others = near[point];
      if (!others.length) return middle[point];
      let sum = 0;
      for (const other of others) sum += middle[other];
      return sum / others.length;
    });
    apart(wishes, gaps, weights).forEach((y, rank) => { middle[ordered[rank]] = y; });
  };
  const sweeps = points > 12000 ? 3 : points > 3000 ? 6 : 16;
  for (let sweep = 0; sweep < sweeps; sweep++) {
    for (let at = 0; at < layers.length; at++) settle(at, left);
    for (let at = layers.length - 1; at >= 0; at--) settle(at, right);
  }
  // Last rightwards, so that a chain runs level behind what it starts from.
  for (let at = 0; at < layers.length; at++) settle(at, left);
  for (const plan of plans) {
    if (plan.block) plan.rows(middle);
  }
  return middle;
}

// How far apart the middles of neighbours in a layer are at least.
function gaps(layer, count, columns, heightOf, sizes) {
  const apart = [];
  for (let at = 0; at + 1 < layer.length; at++) {
    const [upper, lower] = [layer[at], layer[at + 1]];
    const half = (point) => (point < count ? heightOf(point) / 2 : 0);
    // In several columns the nodes stand like bricks: lines pass in the joints.
    if (upper < count && lower < count) apart.push((half(upper) + half(lower) + sizes.nodeGap) / columns);
    else if (upper < count || lower < count) apart.push(half(upper) + half(lower) + sizes.lineGap);
    else apart.push(sizes.lineGap);
  }
  return apart;
}

// A very large layer is a block of rows; what passes it, passes behind.
function block(layer, nodes, columns, heightOf, sizes) {
  const step = Math.max(...nodes.map(heightOf)) + sizes.nodeGap;
  const rows = Math.ceil(nodes.length / columns);
  const gaps = layer.slice(1).map(() => rows * step / layer.length);
  return { block: true, ordered: layer, gaps, rows(middle) {
    const centre = nodes.reduce((sum, point) => sum + middle[point], 0) / nodes.length;
    nodes.forEach((point, rank) => {
      middle[point] = centre + (Math.floor(rank / columns) - (rows - 1) / 2) * step;
    });
  } };
}

// The heights nearest to the wishes, by least squares, that keep order and gaps: with the gaps
// taken out this is isotonic regression, solved by pooling adjacent violators.
function apart(wishes, gaps, weights) {
  const offsets = [0];
  for (const gap of gaps) offsets.push(offsets[offsets.length - 1] + gap);
  const pools = [];
  wishes.forEach((wish, at) => {
    pools.push([(wish - offsets[at]) * weights[at], weights[at], 1]);
    while (pools.length > 1) {
      const last = pools[pools.length - 1], before = pools[pools.length - 2];
      if (before[0] / before[1] <= last[0] / last[1]) break;
      pools.pop();
      before[0] += last[0];
      before[1] += last[1];
      before[2] += last[2];
    }
  });
  const out = [];
  for (const [sum, weight, members] of pools) {
    for (let n = 0; n < members; n++) out.push(sum / weight + offsets[out.length]);
  }
  return out;
}
