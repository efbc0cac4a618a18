// The grid of patches over the picture: what each holds, and the region that edits act on. Patches
// are buttons, so that a region can be painted with the keyboard, too.

import { make, part, say, short } from "./dom.js";
import { shownMap } from "./map.js";
import { emit, on, state } from "./state.js";

const PAINT_HELP =
  "Drag over the picture, or move with the arrow keys and press space. Edits act on these patches only.";

let active = 0;
let stroke = null;

function cell(at) {
  return part("patches").querySelectorAll("button")[at];
}

function build() {
  const grid = part("patches");
  const { rows, columns } = state.grid;
  grid.style.setProperty("--rows", rows);
  grid.style.setProperty("--columns", columns);
  const lines = [];
  for (let row = 0; row < rows; row += 1) {
    const line = make("div", { role: "row" });
    for (let column = 0; column < columns; column += 1) {
      const at = row * columns + column;
      line.append(make("button", { type: "button", role: "gridcell", "data-at": at, tabindex: -1 }));
    }
    lines.push(line);
  }
  grid.replaceChildren(...lines);
  active = Math.min(active, rows * columns - 1);
  update();
}

/** Labels, and which patch the Tab key reaches: one, and only while a region is painted. */
function update() {
  const grid = part("patches");
  grid.hidden = !state.picture;
  grid.classList.toggle("painting", state.painting);
  const { columns } = state.grid;
  grid.querySelectorAll("button").forEach((button, at) => {
    const chosen = state.region.has(at);
    button.tabIndex = state.painting && at === active ? 0 : -1;
    button.setAttribute("aria-selected", String(chosen));
    const place = `row ${Math.floor(at / columns) + 1}, column ${(at % columns) + 1}`;
    button.setAttribute("aria-label", chosen ? `${place}, in the region` : place);
  });
  part("paint").setAttribute("aria-pressed", String(state.painting));
  part("clear-region").disabled = !state.region.size;
  const note = part("region-note");
  const size = state.region.size;
  note.hidden = !state.painting && !size;
  note.textContent = size
    ? `Edits act on ${size} of ${state.grid.rows * columns} patches.`
    : PAINT_HELP;
}

function readOut(at) {
  const map = shownMap();
  const { columns } = state.grid;
  if (!map || at === null) {
    part("readout").textContent = "";
    return;
  }
  const place = `row ${Math.floor(at / columns) + 1} column ${(at % columns) + 1}`;
  const [before, after] = [map.before[at], map.values[at]];
  const z = map.deviation > 0 ? (after - map.middle) / map.deviation : 0;
  const change = before === after ? short(after) : `${short(before)} → ${short(after)}`;
  part("readout").textContent = `${place}: ${change}  (z ${z.toFixed(1)})`;
}

function set(at, inside) {
  if (state.region.has(at) === inside) return;
  if (inside) state.region.add(at);
  else state.region.delete(at);
  emit("region");
  emit("plan");
}

function patchAt(event) {
  const box = part("patches").getBoundingClientRect();
  const { rows, columns } = state.grid;
  const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
  const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
  return row >= 0 && column >= 0 && row < rows && column < columns ? row * columns + column : null;
}

function onKey(event) {
  const { rows, columns } = state.grid;
  const [row, column] = [Math.floor(active / columns), active % columns];
  const moves = {
    ArrowUp: [Math.max(0, row - 1), column],
    ArrowDown: [Math.min(rows - 1, row + 1), column],
    ArrowLeft: [row, Math.max(0, column - 1)],
    ArrowRight: [row, Math.min(columns - 1, column + 1)],
    Home: [row, 0],
    End: [row, columns - 1],
  };
  if (event.key in moves) {
    const [toRow, toColumn] = moves[event.key];
    active = toRow * columns + toColumn;
    update();
    cell(active).focus();
    readOut(active);
  } else if (event.key === " " || event.key === "Enter") set(active, !state.region.has(active));
  else if (event.key === "Escape") paint(false);
  else return;
  event.preventDefault();
}

/** Turns the painting of a region on or off. */
function paint(painting) {
  state.painting = painting;
  update();
  if (painting) say(PAINT_HELP);
  else part("paint").focus();
}

export function listen() {
  const grid = part("patches");
  grid.addEventListener("pointerdown", (event) => {
    const at = patchAt(event);
    if (!state.painting || at === null) return;
    grid.setPointerCapture(event.pointerId);
    event.preventDefault();
    active = at;
    stroke = !state.region.has(at);
    set(at, stroke);
  });
  grid.addEventListener("pointermove", (event) => {
    const at = patchAt(event);
    readOut(at);
    if (stroke !== null && at !== null) set(at, stroke);
  });
  const lift = () => { stroke = null; };
  grid.addEventListener("pointerup", lift);
  grid.addEventListener("pointercancel", lift);
  grid.addEventListener("pointerleave", () => readOut(null));
  grid.addEventListener("keydown", onKey);
  part("paint").addEventListener("click", () => {
    paint(!state.painting);
    if (state.painting) cell(active)?.focus({ focusVisible: false });
  });
  part("clear-region").addEventListener("click", () => {
    state.region.clear();
    emit("region");
    emit("plan");
    part("paint").focus();
  });
  on("picture", build);
  on("region", update);
}
