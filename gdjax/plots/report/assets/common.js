"use strict";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const space = $("map").namespaceURI;

/* Every text from the data goes through textContent: names are never read as HTML. */
function shape(parent, name, attributes, text) {
  const made = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function element(parent, name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

const words = (name) => name.replaceAll("_", " ");
const shorten = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);
const shown = (x) => {
  if (x === null || x === undefined) return "no number";
  const size = Math.abs(x);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
};

/* What is chosen stands in the address after the #, so that a view can be linked to. */
const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
function remember(changes) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") state.delete(key);
    else state.set(key, value);
  }
  try {
    history.replaceState(null, "", "#" + state);
  } catch (error) {
    /* a page that is shown inside of another may have no address */
  }
}

function options(select, names, chosen) {
  names.forEach((name, i) => {
    const made = element(select, "option", words(name));
    made.value = String(i);
  });
  if (chosen >= 0 && chosen < names.length) select.value = String(chosen);
}

function place(tip, box, x, y, text) {
  tip.textContent = text;
  tip.hidden = false;
  const left = Math.min(Math.max(x - tip.offsetWidth / 2, 0), Math.max(box.clientWidth - tip.offsetWidth, 0));
  const above = y - tip.offsetHeight - 14;
  tip.style.left = left + "px";
  tip.style.top = (above < 0 ? y + 18 : above) + "px";
}

/* Round numbers between two bounds: powers of ten where the scale is logarithmic, 1-2-5 steps otherwise. */
function ticks(low, high, logarithmic, most) {
  if (logarithmic) {
    const first = Math.ceil(Math.log10(low) - 1e-9), end = Math.floor(Math.log10(high) + 1e-9);
    const stride = Math.max(1, Math.ceil((end - first + 1) / most)), found = [];
    for (let power = first; power <= end; power += stride) found.push(10 ** power);
    if (found.length > 1) return found;
  }
  const rough = (high - low) / Math.max(most - 1, 1) || 1, power = 10 ** Math.floor(Math.log10(rough));
  const stride = [1, 2, 5, 10].map((k) => k * power).find((each) => each >= rough) || 10 * power;
  const found = [];
  for (let i = Math.ceil(low / stride - 1e-9); i * stride <= high + 1e-9 * stride && found.length < 50; i++)
    found.push(Number((i * stride).toPrecision(12)));
  return found;
}

const scale = (low, high, logarithmic, start, end) => {
  const at = logarithmic ? Math.log : (x) => x, bottom = at(low), range = at(high) - bottom || 1;
  return (x) => start + ((at(x) - bottom) / range) * (end - start);
};

/* A scale on which most numbers can be told apart, as gdjax.plots has it: a few that are far from the quartiles (by
   logarithms, if all are positive; else from the first and last tenth) are left out where the scale would be mostly theirs. */
function limits(numbers) {
  const all = numbers.filter((x) => x !== null && Number.isFinite(x)).sort((a, b) => a - b);
  if (!all.length) return { low: 0, high: 1, logarithmic: false, below: false, above: false };
  const positive = all[0] > 0, at = positive ? Math.log : (x) => x, last = all.length - 1, share = positive ? 0.25 : 0.1;
  const first = at(all[Math.ceil(share * last)]), third = at(all[Math.floor((1 - share) * last)]);
  const reach = Math.max((positive ? 3 : 10) * (third - first), positive ? Math.log(100) : 0);
  let kept = reach > 0 ? all.filter((x) => at(x) >= first - reach && at(x) <= third + reach) : all;
  if (!(at(all[last]) - at(all[0]) > 3 * (at(kept[kept.length - 1]) - at(kept[0])))) kept = all;
  const low = kept[0], high = kept[kept.length - 1];
  return { low, high, logarithmic: positive && high / low > 30, below: all[0] < low, above: all[last] > high };
}

/* A text that is cut at its end until it fits. */
function fit(text, label, room) {
  text.textContent = label;
  for (let length = label.length; length > 1 && text.getComputedTextLength() > room; length--) text.textContent = shorten(label, length - 1);
}
