/* Maps: two features of the runs, the others reduced; cells where half of the runs failed are hatched. */
const { features, variables, cells } = data.maps;
const map = { svg: $("map"), tip: $("map-tip"), read: $("map-read"), active: null, pinned: false };

function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (data.colours.length - 1), i = Math.min(Math.floor(at), data.colours.length - 2);
  const mixed = data.colours[i].map((low, k) => Math.round(low + (at - i) * (data.colours[i + 1][k] - low)));
  return `rgb(${mixed.join(",")})`;
}

/* The cell of a view at a column and a row, whichever of the two features the data go along first. */
function cellAt(view, column, row) {
  const swapped = view.x < view.y, first = swapped ? column : row, second = swapped ? row : column;
  const found = cells[swapped ? `${view.x},${view.y}` : `${view.y},${view.x}`];
  const place = first * features[swapped ? view.y : view.x].labels.length + second;
  const counts = found.counts[place], total = counts.reduce((a, b) => a + b, 0);
  const failed = counts.reduce((sum, count, i) => sum + (data.kinds[i].failed ? count : 0), 0);
  return { value: found[variables[view.variable]][view.reduce][place], counts, total, failed, lost: total > 0 && 2 * failed >= total };
}

function describe(view, column, row) {
  const cell = cellAt(view, column, row), x = features[view.x], y = features[view.y];
  const where = [[x, column], [y, row]].filter(([each]) => each.labels.length > 1).map(([each, i]) => `${words(each.name)} ${each.labels[i]}`);
  const ends = cell.counts.map((count, i) => (count ? `${count} ${data.kinds[i].name}` : "")).filter(Boolean);
  const what = `${view.reduce} ${words(variables[view.variable])}`;
  const value = cell.value === null ? (cell.total ? "no run that did not fail" : "no runs") : `${what} ${shown(cell.value)}`;
  return `${where.join(", ")}\n${value}\n${ends.join(", ")}`;
}

/* Parts of a range are labelled by where they begin. */
const ticksOf = (feature) => feature.labels.map((label) => (feature.ordered ? label.split(" to ")[0] : label));

function view() {
  return {
    x: Number($("map-x").value), y: Number($("map-y").value),
    variable: Number($("map-variable").value), reduce: $("map-reduce").value,
  };
}

function drawMap(keep) {
  const now = view(), x = features[now.x], y = features[now.y], svg = map.svg;
  const columns = x.labels.length, count = y.labels.length, upwards = y.ordered;
  const found = [];
  for (let row = 0; row < count; row++) for (let column = 0; column < columns; column++) found.push({ column, row, ...cellAt(now, column, row) });
  const numbers = found.filter((cell) => cell.value !== null && !cell.lost).map((cell) => cell.value);
  const ends = limits(numbers), { low, high } = ends, positive = numbers.length > 0 && low > 0;
  const box = $("map-log");
  if (!keep) box.checked = ends.logarithmic;
  box.disabled = !positive;
  const logarithmic = positive && box.checked;
  const to = scale(low, high, logarithmic, 0, 1);

  const width = Math.max(svg.clientWidth, 280);
  svg.replaceChildren();
  const measured = ticksOf(y).map((label) => shape(svg, "text", {}, label).getComputedTextLength());
  const left = Math.ceil(Math.min(Math.max(...measured, 10), 0.38 * width)) + 12;
  const size = Math.min(Math.max((width - left - 12) / columns, 3), 96), tall = Math.min(Math.max(size, count > 24 ? 11 : 18), 34);
  const head = 22, bottom = head + tall * count, height = bottom + 92;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = height + "px";
  svg.setAttribute("aria-label", `Map of ${words(variables[now.variable])} over ${words(x.name)} and ${words(y.name)}`);
  const pattern = shape(shape(svg, "defs", {}), "pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  shape(pattern, "rect", { width: 6, height: 6, class: "lost" });
  shape(pattern, "line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "hatch" });
  const top = (row) => head + tall * (upwards ? count - 1 - row : row);
  for (const cell of found) {
    if (!cell.total) continue;
    const fill = cell.lost ? "url(#hatch)" : cell.value === null ? "none" : colour(numbers.length > 1 ? to(cell.value) : 0.5);
    shape(svg, "rect", { x: left + size * cell.column, y: top(cell.row), width: Math.max(size - 0.6, 1), height: tall - 0.6, fill, class: cell.lost ? "cell lost-cell" : "cell" });
    const beyond = cell.lost || cell.value === null ? 0 : cell.value > high ? 1 : cell.value < low ? -1 : 0;
    if (beyond) {
      const cx = left + size * (cell.column + 0.5), cy = top(cell.row) + tall / 2, arm = Math.min(size, tall, 16) / 3.2;
      shape(svg, "path", { d: `M${cx - arm} ${cy + beyond * arm * 0.8}h${2 * arm}l${-arm} ${-1.6 * beyond * arm}Z`, class: "beyond" });
    } else if (cell.failed && !cell.lost) {
      const cx = left + size * (cell.column + 0.5), cy = top(cell.row) + tall / 2, arm = Math.min(size, tall, 14) / 4;
      const d = `M${cx - arm} ${cy - arm}l${2 * arm} ${2 * arm}m0 ${-2 * arm}l${-2 * arm} ${2 * arm}`;
      shape(svg, "path", { d, class: "cross-under" });
      shape(svg, "path", { d, class: "cross" });
    }
  }
  const across = ticksOf(x), upward = ticksOf(y);
  const longest = Math.max(14, Math.floor(size / 7) - 1), names = across.map((label) => shorten(label, longest));
  const widest = Math.max(...names.map((label) => shape(svg, "text", { visibility: "hidden" }, label).getComputedTextLength())) + 8;
  const every = Math.max(1, Math.ceil(widest / size)), each = Math.max(1, Math.ceil(13 / tall));
  across.forEach((label, i) => {
    if (i % every === 0) shape(svg, "text", { x: left + size * (i + 0.5), y: bottom + 16, "text-anchor": "middle" }, names[i]);
  });
  upward.forEach((label, i) => {
    if (i % each === 0) fit(shape(svg, "text", { x: left - 6, y: top(i) + tall / 2 + 4, "text-anchor": "end" }), label, left - 8);
  });
  shape(svg, "text", { x: left + (size * columns) / 2, y: bottom + 34, "text-anchor": "middle" }, words(x.name));
  shape(svg, "text", { x: 2, y: 13 }, `${shorten(words(y.name), 40)}${upwards ? " ↑" : ""}`);
  const start = width < 560 ? 4 : left;
  drawKey(svg, { left: start, top: bottom + 50, width: Math.min(260, width - start - 84), ends, logarithmic, any: numbers.length, lost: found.some((cell) => cell.lost), some: found.some((cell) => cell.failed && !cell.lost) });
  map.layout = { left, size, height: tall, columns, count, top, width };
  map.frame = shape(svg, "rect", { class: "mark", visibility: "hidden" });
  map.inner = shape(svg, "rect", { class: "mark-in", visibility: "hidden" });
  map.tip.hidden = true;
  if (map.active && (map.active.column >= columns || map.active.row >= count)) map.active = null;
}

function drawKey(svg, key) {
  if (key.any) {
    const parts = 40;
    for (let i = 0; i < parts; i++)
      shape(svg, "rect", { x: key.left + (key.width * i) / parts, y: key.top, width: key.width / parts + 0.5, height: 10, fill: colour((i + 0.5) / parts) });
    shape(svg, "text", { x: key.left, y: key.top + 24 }, (key.ends.below ? "≤ " : "") + shown(key.ends.low));
    shape(svg, "text", { x: key.left + key.width, y: key.top + 24, "text-anchor": "end" }, (key.ends.above ? "≥ " : "") + shown(key.ends.high));
    if (key.logarithmic) shape(svg, "text", { x: key.left + key.width + 8, y: key.top + 10 }, "logarithmic");
  }
  const beyond = [key.ends.above ? "▲: above the colours" : "", key.ends.below ? "▼: below the colours" : ""];
  const text = [...(key.any ? beyond : []), key.lost ? "hatched: half or more failed" : "", key.some ? "×: some failed" : ""].filter(Boolean).join("; ");
  shape(svg, "text", { x: key.left, y: key.top + 39 }, text);
}

function point(column, row) {
  const at = map.layout, x = at.left + at.size * column, y = at.top(row);
  map.active = { column, row };
  for (const frame of [map.frame, map.inner])
    for (const [key, value] of Object.entries({ x, y, width: at.size, height: at.height, visibility: "visible" })) frame.setAttribute(key, value);
  const text = describe(view(), column, row), ratio = map.svg.clientWidth / at.width || 1;
  place(map.tip, map.svg.parentElement, (x + at.size / 2) * ratio, y * ratio, text);
  map.read.textContent = text.replaceAll("\n", "; ");
}

function changeMap(changed) {
  if ($("map-x").value === $("map-y").value) {
    const other = changed === "map-x" ? $("map-y") : $("map-x");
    other.value = String(features.findIndex((_, i) => i !== Number($(changed).value)));
  }
  const now = view();
  remember({ across: features[now.x].name, up: features[now.y].name, variable: variables[now.variable], number: now.reduce });
  drawMap(changed === "map-log");
  map.read.textContent = "";
}

if (features.length > 1 && variables.length) {
  const named = (key, otherwise) => {
    const found = features.findIndex((each) => each.name === state.get(key));
    return found < 0 ? otherwise : found;
  };
  const settled = features.map((_, i) => i).filter((i) => !data.over.includes(features[i].name));
  const across = named("across", settled.find((i) => features[i].ordered) ?? 0);
  const up = named("up", settled.find((i) => i !== across) ?? features.findIndex((_, i) => i !== across));
  const names = features.map((each) => each.name);
  options($("map-x"), names, across);
  options($("map-y"), names, up === across ? names.findIndex((_, i) => i !== across) : up);
  options($("map-variable"), variables, variables.indexOf(state.get("variable")));
  const extreme = $("map-reduce").options[1];
  extreme.value = extreme.textContent = data.maps.extreme;
  if (state.get("number") === data.maps.extreme) $("map-reduce").value = data.maps.extreme;
  $("maps").hidden = false;
  for (const id of ["map-x", "map-y", "map-variable", "map-reduce", "map-log"]) $(id).addEventListener("change", () => changeMap(id));
  const move = (event) => {
    const bounds = map.svg.getBoundingClientRect(), at = map.layout, ratio = at.width / bounds.width;
    const column = Math.floor(((event.clientX - bounds.left) * ratio - at.left) / at.size), y = (event.clientY - bounds.top) * ratio;
    const row = Array.from({ length: at.count }, (_, i) => i).find((i) => y >= at.top(i) && y < at.top(i) + at.height);
    if (row !== undefined && column >= 0 && column < at.columns) point(column, row);
    else map.tip.hidden = true;
  };
  map.svg.addEventListener("pointermove", move);
  map.svg.addEventListener("pointerdown", move);
  map.svg.addEventListener("pointerleave", () => { map.tip.hidden = true; });
  map.svg.addEventListener("blur", () => { map.tip.hidden = true; });
  map.svg.addEventListener("keydown", (event) => {
    const at = map.layout, sign = features[view().y].ordered ? 1 : -1;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, sign], ArrowDown: [0, -sign] }[event.key];
    if (event.key === "Escape") map.tip.hidden = true;
    if (!step) return;
    event.preventDefault();
    const old = map.active || { column: 0, row: 0 }, by = map.active ? step : [0, 0];
    point(Math.min(Math.max(old.column + by[0], 0), at.columns - 1), Math.min(Math.max(old.row + by[1], 0), at.count - 1));
  });
  drawMap(false);
  let width = map.svg.clientWidth;
  new ResizeObserver(() => {
    if (map.svg.clientWidth !== width) { width = map.svg.clientWidth; requestAnimationFrame(() => drawMap(true)); }
  }).observe(map.svg.parentElement);
}
