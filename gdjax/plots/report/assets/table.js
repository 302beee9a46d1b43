/* The table of settings: sorted by its heads, filtered by words and by comparisons such as rate<0.1. */
const table = $("settings"), body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
const rows = [...body.rows].map((row) => {
  const cells = [...row.cells].map((cell) => ({
    number: cell.dataset.v === undefined ? NaN : Number(cell.dataset.v.replace("inf", "Infinity")),
    text: cell.textContent,
  }));
  return { row, cells, text: cells.map((cell) => cell.text.toLowerCase()).join(" ") };
});

function sort(column, descending) {
  const sign = descending ? -1 : 1, numeric = heads[column].dataset.kind === "number";
  const compare = (a, b) => {
    const p = a.cells[column], q = b.cells[column];
    if (!numeric) return sign * p.text.localeCompare(q.text, undefined, { numeric: true });
    if (Number.isNaN(p.number) || Number.isNaN(q.number)) return Number.isNaN(p.number) - Number.isNaN(q.number);
    return p.number === q.number ? 0 : sign * (p.number < q.number ? -1 : 1);
  };
  rows.sort(compare);
  body.append(...rows.map((each) => each.row));
  heads.forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

const signs = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };

/* One word of the filter as a test of a row. */
function test(word) {
  const parts = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/);
  const named = parts && heads.findIndex((head) => words(head.dataset.name).replaceAll(" ", "_").toLowerCase() === parts[1]);
  if (!parts || named < 0) return (each) => each.text.includes(word);
  const value = Number(parts[3]);
  if (heads[named].dataset.kind === "number" && !Number.isNaN(value))
    return (each) => signs[parts[2]](each.cells[named].number, value);
  return (each) => each.cells[named].text.toLowerCase() === parts[3];
}

function filter(text) {
  const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map(test);
  let count = 0;
  for (const each of rows) {
    each.row.hidden = !tests.every((passes) => passes(each));
    count += !each.row.hidden;
  }
  $("matches").textContent = count === rows.length ? `${count} settings` : `${count} of ${rows.length} settings`;
}

heads.forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    sort(column, descending);
    remember({ sort: head.dataset.name, order: descending ? "descending" : null });
  });
});
$("filter").addEventListener("input", (event) => {
  filter(event.target.value);
  remember({ filter: event.target.value });
});

$("table-controls").hidden = false;
$("filter").value = state.get("filter") || "";
filter($("filter").value);
{
  const column = heads.findIndex((head) => head.dataset.name === (state.get("sort") || "rank"));
  if (column >= 0) sort(column, state.get("order") === "descending");
}
