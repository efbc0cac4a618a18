// The table of concepts: filtered, sorted, and shown a screenful at a time.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const { id, name, rows, mean, max } = data.concepts;
const lowered = name.map((text) => text.toLowerCase());
const shown = new Set(data.shown.map((entry) => entry.concept));
const columns = { id, name: lowered, rows, mean, max };
const STEP = 100;

const body = document.querySelector("#concepts tbody");
const heads = [...document.querySelectorAll("#concepts th")];
const query = document.getElementById("query");
const count = document.getElementById("count");
const more = document.getElementById("more");
let sort = { by: "rows", up: false };
let limit = STEP;

function cell(row, content) {
  const added = row.insertCell();
  added.append(content);
  return added;
}

function label(at) {
  if (!shown.has(id[at])) return name[at];
  const link = document.createElement("a");
  link.href = `#concept-${id[at]}`;
  link.textContent = name[at];
  return link;
}

function draw() {
  const filter = query.value.trim().toLowerCase();
  const matches = id.map((_, at) => at).filter(
    (at) => lowered[at].includes(filter) || String(id[at]) === filter);
  const keys = columns[sort.by];
  const order = (a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : 0);
  matches.sort((a, b) => (sort.up ? order(a, b) : order(b, a)) || a - b);
  body.replaceChildren();
  for (const at of matches.slice(0, limit)) {
    const row = body.insertRow();
    cell(row, String(id[at])).className = "number";
    cell(row, label(at));
    const bar = cell(row, `${(100 * rows[at] / data.summary.rows).toPrecision(3)}%`);
    bar.className = "number bar";
    bar.style.setProperty("--part", rows[at] / rows[0]);
    bar.title = `${rows[at].toLocaleString("en")} rows`;
    cell(row, mean[at].toPrecision(3)).className = "number";
    cell(row, max[at].toPrecision(3)).className = "number";
  }
  for (const head of heads) {
    const sorted = head.dataset.by === sort.by;
    head.setAttribute("aria-sort", sorted ? (sort.up ? "ascending" : "descending") : "none");
  }
  const visible = Math.min(limit, matches.length);
  count.textContent =
    `${visible.toLocaleString("en")} of ${matches.length.toLocaleString("en")} concepts`;
  more.hidden = visible === matches.length;
}

for (const head of heads) {
  head.querySelector("button").addEventListener("click", () => {
    const by = head.dataset.by;
    const first = by === "name" || by === "id";
    sort = { by, up: sort.by === by ? !sort.up : first };
    limit = STEP;
    draw();
  });
}
query.addEventListener("input", () => { limit = STEP; draw(); });
more.addEventListener("click", () => { limit += STEP; draw(); });
draw();
