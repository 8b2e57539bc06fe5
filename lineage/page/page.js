"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const svg = document.getElementById("drawing");
  const world = document.getElementById("world");
  const details = document.getElementById("details");
  const nodes = [...world.querySelectorAll(".node")];
  const lines = document.getElementById("edges");
  const edges = [...lines.children];
  const upstream = data.entities.map(() => []);
  const downstream = data.entities.map(() => []);
  data.associations.forEach(([source, destination], edge) => {
    upstream[destination].push([source, edge]);
    downstream[source].push([destination, edge]);
  });

  // Pan and zoom. Without this script the view box shows everything.
  svg.removeAttribute("viewBox");
  const LEAST = 0.03, MOST = 3;
  let view = { x: 0, y: 0, scale: 1 };

  function show() {
    world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
    svg.classList.toggle("far", view.scale < 0.42);
    const box = svg.getBoundingClientRect();
    const seen = map.view;
    seen.setAttribute("x", -view.x / view.scale);
    seen.setAttribute("y", -view.y / view.scale);
    seen.setAttribute("width", box.width / view.scale);
    seen.setAttribute("height", box.height / view.scale);
  }

  function zoom(factor, x, y) {
    const scale = Math.min(MOST, Math.max(LEAST, view.scale * factor));
    const box = svg.getBoundingClientRect();
    x ??= box.width / 2;
    y ??= box.height / 2;
    view = {
      x: x - (x - view.x) * scale / view.scale,
      y: y - (y - view.y) * scale / view.scale,
      scale,
    };
    show();
  }

  function fit(least) {
    const box = svg.getBoundingClientRect();
    const margin = 28;
    const whole = Math.min(
      (box.width - 2 * margin) / data.width, (box.height - 2 * margin) / data.height, 1.25);
    const scale = Math.max(whole, least, LEAST);
    view = { x: (box.width - data.width * scale) / 2, y: (box.height - data.height * scale) / 2, scale };
    // What does not fit at a readable size starts where the question started.
    if (whole < least && data.start >= 0) {
      centre(data.start);
      const hold = (at, size, room) => size <= room
        ? (room - size) / 2 : Math.min(margin, Math.max(room - size - margin, at));
      view.x = hold(view.x, data.width * scale, box.width);
      view.y = hold(view.y, data.height * scale, box.height);
    }
    map.element.classList.toggle("idle", whole >= least);
    show();
  }

  function centre(node) {
    const box = svg.getBoundingClientRect();
    const [x, y] = data.places[node];
    view.x = box.width / 2 - (x + data.node[0] / 2) * view.scale;
    view.y = box.height / 2 - (y + data.node[1] / 2) * view.scale;
    show();
  }

  function reveal(node) {
    const box = svg.getBoundingClientRect();
    const right = details.hidden ? 0 : details.offsetWidth + 24;
    const x = data.places[node][0] * view.scale + view.x;
    const y = data.places[node][1] * view.scale + view.y;
    const inside = x > 0 && y > 0 && x + data.node[0] * view.scale < box.width - right &&
      y + data.node[1] * view.scale < box.height;
    if (!inside) centre(node);
  }

  const pointers = new Map();
  let moved = 0;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pointers.set(event.pointerId, event);
    moved = 0;
  });
  svg.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    moved += Math.abs(dx) + Math.abs(dy);
    if (moved > 4 && !svg.hasPointerCapture(event.pointerId)) {
      svg.setPointerCapture(event.pointerId);
      svg.classList.add("panning");
    }
    const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
    pointers.set(event.pointerId, event);
    if (other) {
      const span = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const box = svg.getBoundingClientRect();
      zoom(span(event) / Math.max(span(before), 1),
        (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
    } else {
      view.x += dx;
      view.y += dy;
      show();
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    svg.addEventListener(kind, (event) => {
      pointers.delete(event.pointerId);
      svg.classList.remove("panning");
    });
  }
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)),
      event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });

  // The small map.
  const map = (() => {
    const element = document.getElementById("map");
    const pad = Math.max(data.width, data.height) * 0.04;
    element.setAttribute("viewBox",
      `${-pad} ${-pad} ${data.width + 2 * pad} ${data.height + 2 * pad}`);
    data.places.forEach(([x, y], node) => {
      const rect = make("rect", { x, y, width: data.node[0], height: data.node[1], rx: 8 });
      rect.setAttribute("class", `kind-${data.entities[node].kind}`);
      element.append(rect);
    });
    const seen = make("rect", {});
    seen.setAttribute("class", "view");
    element.append(seen);
    const go = (event) => {
      if (!event.buttons) return;
      const at = new DOMPoint(event.clientX, event.clientY)
        .matrixTransform(element.getScreenCTM().inverse());
      const box = svg.getBoundingClientRect();
      view.x = box.width / 2 - at.x * view.scale;
      view.y = box.height / 2 - at.y * view.scale;
      show();
    };
    element.addEventListener("pointerdown", go);
    element.addEventListener("pointermove", go);
    return { element, view: seen };
  })();

  function make(name, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  // Paths: what a node comes from, and what comes from it.
  let kept = -1;

  function follow(start, neighbours, mark) {
    const seen = new Set([start]);
    const waiting = [start];
    while (waiting.length) {
      for (const [next, edge] of neighbours[waiting.pop()]) {
        edges[edge].classList.add(mark);
        lines.append(edges[edge]);
        if (seen.has(next)) continue;
        seen.add(next);
        nodes[next].classList.add(mark);
        waiting.push(next);
      }
    }
    return seen.size - 1;
  }

  function focus(node) {
    for (const element of world.querySelectorAll(".up, .down, .self")) {
      element.classList.remove("up", "down", "self");
    }
    svg.classList.toggle("focused", node >= 0);
    if (node < 0) return [0, 0];
    nodes[node].classList.add("self");
    return [follow(node, upstream, "up"), follow(node, downstream, "down")];
  }

  function keep(node) {
    kept = node;
    const [above, below] = focus(node);
    details.hidden = node < 0;
    if (node >= 0) {
      describe(node, above, below);
      reveal(node);
    }
  }

  nodes.forEach((element, node) => {
    element.addEventListener("pointerenter", () => { if (kept < 0 && !pointers.size) focus(node); });
    element.addEventListener("pointerleave", () => { if (kept < 0) focus(-1); });
    element.addEventListener("click", (event) => {
      event.stopPropagation();
      if (moved <= 4) keep(kept === node ? -1 : node);
    });
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        keep(node);
      }
    });
    element.addEventListener("focus", () => { if (element.matches(":focus-visible")) reveal(node); });
  });
  svg.addEventListener("click", () => { if (moved <= 4) keep(-1); });

  // Details. Everything from the graph enters as text, never as markup.
  function text(name, content, className) {
    const element = document.createElement(name);
    element.textContent = content;
    if (className) element.className = className;
    return element;
  }

  function describe(node, above, below) {
    const entity = data.entities[node];
    const close = text("button", "×", "close");
    close.type = "button";
    close.title = "Close (Esc)";
    close.addEventListener("click", () => keep(-1));
    const version = entity.kind === "Artifact" || entity.version > 1 ? ` · v${entity.version}` : "";
    details.replaceChildren(
      close,
      text("h2", entity.name),
      text("p", `${entity.type} · ${entity.kind}${version}`, `what kind-${entity.kind}`));
    const given = { ...entity.properties };
    const failure = given.failure_reason;
    delete given.failure_reason;
    table([
      ["state", entity.state], ["failure", failure ?? ""], ["uid", entity.uid, "code"], ["source", entity.source_uri, "code"],
      ["content", entity.content_hash, "code"], ["created", entity.created],
      ["modified", entity.modified], ["upstream", `${above}`], ["downstream", `${below}`],
    ]);
    for (const name of ["metrics", "parameters"]) {
      group(name, given[name]);
      delete given[name];
    }
    list("From", upstream[node]);
    list("To", downstream[node]);
    const isPlain = ([, value]) => value === null || typeof value !== "object";
    const plain = Object.entries(given).filter(isPlain);
    group("properties", Object.fromEntries(plain));
    for (const [name, value] of Object.entries(given).filter((one) => !isPlain(one))) {
      group(name, Array.isArray(value) ? { "": value } : value);
    }
    details.scrollTop = 0;
  }

  function group(name, values) {
    const rows = Object.entries(values ?? {});
    if (!rows.length) return;
    details.append(text("h3", name.replaceAll("_", " ")));
    table(rows.map(([key, value]) => [key, shown(key, value)]));
  }

  function shown(name, value) {
    if (name.endsWith("_us") && Number.isInteger(value)) {
      return new Date(value / 1000).toISOString().replace("T", " ").replace("Z", " UTC");
    }
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

  function list(title, neighbours) {
    if (!neighbours.length) return;
    details.append(text("h3", title));
    const items = document.createElement("ul");
    for (const [other, edge] of neighbours) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(
        text("span", data.entities[other].name), text("small", data.associations[edge][2]));
      button.addEventListener("click", () => keep(other));
      const item = document.createElement("li");
      item.append(button);
      items.append(item);
    }
    details.append(items);
  }

  // Search and legend.
  const search = document.getElementById("search");
  const hits = document.getElementById("hits");
  const haystack = data.entities.map((entity) => [
    entity.name, entity.type, entity.kind, entity.uid, entity.source_uri, entity.state,
    entity.content_hash,
  ].join("\n").toLowerCase());
  let found = [], at = -1;

  function mark(matches, on) {
    found = on ? data.entities.map((_, node) => node).filter(matches) : [];
    at = -1;
    nodes.forEach((element) => element.classList.remove("hit"));
    found.forEach((node) => nodes[node].classList.add("hit"));
    svg.classList.toggle("searched", on);
    hits.textContent = on ? `${found.length}` : "";
  }

  search.addEventListener("input", () => {
    press(null);
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    mark((node) => words.every((word) => haystack[node].includes(word)), words.length > 0);
    if (found.length === 1) reveal(found[0]);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !found.length) return;
    at = (at + (event.shiftKey ? found.length - 1 : 1)) % found.length;
    hits.textContent = `${at + 1}/${found.length}`;
    if (view.scale < 0.6) zoom(0.8 / view.scale);
    centre(found[at]);
  });

  const buttons = [...document.querySelectorAll("#legend button")];
  function press(button) {
    for (const one of buttons) one.setAttribute("aria-pressed", one === button);
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      search.value = "";
      press(on ? button : null);
      mark((node) => `${data.entities[node].kind} ${data.entities[node].type}` ===
        button.dataset.what, on);
    });
  }

  // Buttons and keys.
  const hint = document.getElementById("hint");
  setTimeout(() => hint.classList.add("gone"), 8000);
  svg.addEventListener("pointerdown", () => hint.classList.add("gone"));
  document.getElementById("fit").addEventListener("click", () => fit(0));
  document.getElementById("in").addEventListener("click", () => zoom(1.25));
  document.getElementById("out").addEventListener("click", () => zoom(0.8));
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      search.value = "";
      search.blur();
      press(null);
      mark(() => false, false);
      keep(-1);
    }
    if (event.target === search || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 80;
    const keys = {
      "/": () => search.focus(), f: () => fit(0), "+": () => zoom(1.25), "=": () => zoom(1.25),
      "-": () => zoom(0.8), ArrowLeft: () => { view.x += step; show(); },
      ArrowRight: () => { view.x -= step; show(); }, ArrowUp: () => { view.y += step; show(); },
      ArrowDown: () => { view.y -= step; show(); },
    };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  addEventListener("resize", () => show());
  fit(0.6);
})();
