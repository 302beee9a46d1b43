/* Curves: what was recorded along the steps, a median and a band for each setting that is chosen. */
const recorded = Object.keys(data.curves.variables), MOST = 14;
const curve = { svg: $("curve"), tip: $("curve-tip"), read: $("curve-read"), chosen: [], at: null, boxes: new Map() };
const dashes = ["none", "7 3", "2 2.5", "8 3 2 3", "4 2"];

const look = (i) => ({ class: `line s${i % 7}`, "stroke-dasharray": dashes[(i + Math.floor(i / 7)) % dashes.length] });
const named = () => recorded[Number($("curve-variable").value)];

function drawn() {
  const { lines } = data.curves.variables[named()];
  return curve.chosen.map((line, i) => ({ line, i, label: data.curves.labels[line], ...lines[line] }));
}

function drawCurves(keep) {
  const { steps } = data.curves.variables[named()], lines = drawn(), svg = curve.svg;
  const middle = lines.flatMap((each) => each.median).filter((x) => x !== null);
  const ends = lines.flatMap((each) => [...each.low, ...each.high]).filter((x) => x !== null);
  const positive = middle.length > 0 && middle.every((x) => x >= 0) && middle.some((x) => x > 0), box = $("curve-log");
  const sizes = middle.filter((x) => x > 0);
  if (!keep) box.checked = positive && Math.max(...sizes) / Math.min(...sizes) > 30;
  box.disabled = !positive;
  const logarithmic = positive && box.checked, usable = (x) => x !== null && (!logarithmic || x > 0);
  const all = middle.filter(usable);
  /* One line that runs away leaves the picture at the top, and the others stay apart. */
  const tops = limits(lines.map((each) => Math.max(...each.median.filter(usable))));
  let low = all.length ? Math.min(...all) : 1, high = all.length ? Math.min(Math.max(...all), tops.high) : 10;
  const inside = ends.filter((x) => usable(x) && (logarithmic ? x >= low / 10 && x <= high * 10 : x >= low - (high - low) && x <= high + (high - low)));
  low = Math.min(low, ...inside);
  high = Math.max(high, ...inside);
  if (low === high) { low = logarithmic ? low / 2 : low - 1; high = logarithmic ? high * 2 : high + 1; }
  if (!logarithmic) { const gap = (high - low) / 25; low -= gap; high += gap; }

  const width = Math.max(svg.clientWidth, 280), height = Math.round(Math.min(Math.max(width * 0.5, 240), 420));
  const left = 62, right = width - 12, bottom = height - 44;
  const x = scale(steps[0], steps.length > 1 ? steps[steps.length - 1] : steps[0] + 1, false, left, right);
  const y = scale(low, high, logarithmic, bottom, 8);
  const clamp = (v) => Math.min(Math.max(y(v), 8), bottom).toFixed(1);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = height + "px";
  svg.setAttribute("aria-label", `Curves of ${words(named())} over steps, ${lines.length} settings`);
  for (const tick of ticks(low, high, logarithmic, 7)) {
    shape(svg, "line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "grid" });
    shape(svg, "text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, shown(tick));
  }
  for (const tick of ticks(steps[0], steps[steps.length - 1], false, Math.max(3, Math.floor(width / 110))))
    shape(svg, "text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, shown(tick));
  shape(svg, "text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, "step");
  shape(svg, "text", { x: 12, y: bottom / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${bottom / 2})` }, shorten(words(named()), 30));
  for (const each of lines) {
    const there = each.median.map((value) => usable(value));
    const runs = pieces(there);
    for (const run of runs) {
      const upper = run.map((k) => `${x(steps[k]).toFixed(1)} ${each.high[k] === null ? 8 : usable(each.high[k]) ? clamp(each.high[k]) : bottom}`);
      const lower = run.map((k) => `${x(steps[k]).toFixed(1)} ${usable(each.low[k]) ? clamp(each.low[k]) : bottom}`).reverse();
      shape(svg, "path", { d: `M${[...upper, ...lower].join("L")}Z`, class: `band f${each.i % 7}` });
    }
    const d = runs.map((run) => "M" + run.map((k) => `${x(steps[k]).toFixed(1)} ${clamp(each.median[k])}`).join("L")).join("");
    shape(svg, "path", { d: d || "M0 0", ...look(each.i) });
  }
  curve.cursor = shape(svg, "line", { y1: 8, y2: bottom, class: "grid", visibility: "hidden" });
  curve.layout = { x, steps, width, lines };
  curve.tip.hidden = true;
  legend(lines);
}

/* The stretches of neighbouring places that hold. */
function pieces(there) {
  const found = [];
  there.forEach((holds, k) => {
    if (holds && (k === 0 || !there[k - 1])) found.push([]);
    if (holds) found[found.length - 1].push(k);
  });
  return found;
}

function legend(lines) {
  const list = $("curve-legend");
  list.replaceChildren();
  for (const each of lines) {
    const item = element(list, "li"), svg = shape(item, "svg", { viewBox: "0 0 34 12", "aria-hidden": "true" });
    shape(svg, "line", { x1: 1, x2: 33, y1: 6, y2: 6, ...look(each.i) });
    element(item, "span", each.label);
  }
  if (!lines.length) element(list, "li", "No setting is chosen.");
}

function atStep(k) {
  const { x, steps, width, lines } = curve.layout, ratio = curve.svg.clientWidth / width || 1;
  curve.at = k;
  for (const [key, value] of Object.entries({ x1: x(steps[k]), x2: x(steps[k]), visibility: "visible" })) curve.cursor.setAttribute(key, value);
  const told = lines.map((each) => {
    const middle = each.median[k] === null ? "half or more have failed" : shown(each.median[k]);
    const band = each.median[k] === null || each.low[k] === each.high[k] ? "" : ` (${shown(each.low[k])} to ${each.high[k] === null ? "∞" : shown(each.high[k])})`;
    return `${shorten(each.label, 60)}: ${middle}${band}`;
  });
  place(curve.tip, curve.svg.parentElement, x(steps[k]) * ratio, 30, [`step ${steps[k]}`, ...told].join("\n"));
  curve.read.textContent = [`step ${steps[k]}`, ...told].join("; ");
}

function choose(lines) {
  curve.chosen = lines.slice(0, MOST);
  for (const [line, box] of curve.boxes) box.checked = curve.chosen.includes(line);
  remember({ curves: curve.chosen.join(",") || "none" });
  drawCurves(false);
  curve.read.textContent = lines.length > MOST ? `At most ${MOST} lines can be told apart.` : "";
}

if (recorded.length && data.curves.labels.length) {
  $("lines").hidden = false;
  options($("curve-variable"), recorded, recorded.indexOf(state.get("recorded")));
  const head = document.createElement("th");
  head.textContent = "curve";
  head.className = "pick";
  head.scope = "col";
  table.tHead.rows[0].append(head);
  for (const { row } of rows) {
    const cell = element(row, "td");
    cell.className = "pick";
    if (row.dataset.line === undefined) continue;
    const line = Number(row.dataset.line), box = element(cell, "input");
    box.type = "checkbox";
    box.setAttribute("aria-label", `curve of ${data.curves.labels[line]}`);
    box.addEventListener("change", () => choose(box.checked ? [...curve.chosen, line] : curve.chosen.filter((each) => each !== line)));
    curve.boxes.set(line, box);
  }
  const lines = (given) => given.slice(0, 6);
  const order = () => rows.filter(({ row }) => !row.hidden && row.dataset.line !== undefined).map(({ row }) => Number(row.dataset.line));
  $("curve-best").addEventListener("click", () => choose(lines(data.curves.labels.map((_, i) => i))));
  $("curve-shown").addEventListener("click", () => choose(lines(order())));
  $("curve-none").addEventListener("click", () => choose([]));
  $("curve-variable").addEventListener("change", () => { remember({ recorded: named() }); drawCurves(false); });
  $("curve-log").addEventListener("change", () => drawCurves(true));
  const nearest = (event) => {
    const bounds = curve.svg.getBoundingClientRect(), { x, steps, width } = curve.layout;
    const at = ((event.clientX - bounds.left) * width) / bounds.width;
    atStep(steps.reduce((best, step, k) => (Math.abs(x(step) - at) < Math.abs(x(steps[best]) - at) ? k : best), 0));
  };
  curve.svg.addEventListener("pointermove", nearest);
  curve.svg.addEventListener("pointerdown", nearest);
  const hide = () => { curve.tip.hidden = true; curve.cursor.setAttribute("visibility", "hidden"); };
  curve.svg.addEventListener("pointerleave", hide);
  curve.svg.addEventListener("blur", hide);
  curve.svg.addEventListener("keydown", (event) => {
    const last = curve.layout.steps.length - 1, old = curve.at === null ? -1 : curve.at;
    const next = { ArrowLeft: Math.max(old - 1, 0), ArrowRight: Math.min(old + 1, last), Home: 0, End: last }[event.key];
    if (event.key === "Escape") hide();
    if (next === undefined) return;
    event.preventDefault();
    atStep(next);
  });
  const wanted = state.get("curves");
  const asked = wanted === null ? null : wanted.split(",").filter((each) => /^\d+$/.test(each)).map(Number).filter((each) => each < data.curves.labels.length);
  curve.chosen = asked || lines(data.curves.labels.map((_, i) => i));
  curve.chosen = curve.chosen.slice(0, MOST);
  for (const [line, box] of curve.boxes) box.checked = curve.chosen.includes(line);
  drawCurves(false);
  let width = curve.svg.clientWidth;
  new ResizeObserver(() => {
    if (curve.svg.clientWidth !== width) { width = curve.svg.clientWidth; requestAnimationFrame(() => drawCurves(true)); }
  }).observe(curve.svg.parentElement);
}
