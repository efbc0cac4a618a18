// The picture as the model read it, with a concept's map on it.

import { MOST_Z, rawColor, zColor } from "./colors.js";
import { part, short } from "./dom.js";
import { mean, spread } from "./plan.js";
import { preview, shown, state } from "./state.js";

const CROP = "IMAGE_FRAMING_CROP";
const PAD = "IMAGE_FRAMING_PAD";

/** The canvas at the screen's own resolution: {context, side} in its pixels. */
function prepared(canvas) {
  const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
  const side = Math.round(canvas.clientWidth * ratio);
  if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
  return { context: canvas.getContext("2d"), side };
}

/** Draws a bitmap into a square as the model framed it. */
export function drawFramed(context, bitmap, side, framing) {
  const { width, height } = bitmap;
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, side, side);
  context.imageSmoothingQuality = "high";
  if (framing === CROP) {
    const kept = Math.min(width, height);
    const [x, y] = [(width - kept) / 2, (height - kept) / 2];
    context.drawImage(bitmap, x, y, kept, kept, 0, 0, side, side);
  } else if (framing === PAD) {
    const scale = side / Math.max(width, height);
    const [w, h] = [width * scale, height * scale];
    context.drawImage(bitmap, (side - w) / 2, (side - h) / 2, w, h);
  } else context.drawImage(bitmap, 0, 0, side, side);
}

/** The framed picture at one size, which a redraw copies: resizing it takes most of its time. */
const framed = { bitmap: null, side: 0, canvas: document.createElement("canvas") };

function drawPicture(context, side) {
  const { bitmap } = state.picture;
  if (!bitmap) {
    context.clearRect(0, 0, side, side);
    return;
  }
  if (framed.bitmap !== bitmap || framed.side !== side) {
    framed.canvas.width = framed.canvas.height = side;
    drawFramed(framed.canvas.getContext("2d"), bitmap, side, state.coverage?.framing);
    Object.assign(framed, { bitmap, side });
  }
  context.drawImage(framed.canvas, 0, 0);
}

/** The map that is shown: {values, colors, strongest}, or null. A z-score is of the map before the
 * edits, so that an edit is seen; of a map that was empty, it is of the map after them. */
export function shownMap(after = preview()) {
  const id = shown();
  const before = state.maps.get(id);
  if (id === null || !before) return null;
  const values = after.get(id)?.values ?? before;
  const base = before.some((value) => value > 0) ? before : values;
  const { middle, deviation } = spread(base);
  const peak = Math.max(...before, ...values, 1e-9);
  const color = (value) =>
    state.scale === "z"
      ? zColor(deviation > 0 ? (value - middle) / deviation : 0)
      : rawColor(value / peak);
  return { id, before, values, middle, deviation, peak, colors: Array.from(values, color) };
}

function cellsOf(side) {
  const { rows, columns } = state.grid;
  return { rows, columns, width: side / columns, height: side / rows };
}

function drawLines(context, side) {
  const { rows, columns, width, height } = cellsOf(side);
  for (const [style, shift] of [["rgba(255,255,255,.55)", 0], ["rgba(20,22,25,.32)", 1]]) {
    context.strokeStyle = style;
    context.lineWidth = 1;
    context.beginPath();
    for (let column = 1; column < columns; column += 1) {
      const x = Math.round(column * width) + 0.5 - shift;
      context.moveTo(x, 0);
      context.lineTo(x, side);
    }
    for (let row = 1; row < rows; row += 1) {
      const y = Math.round(row * height) + 0.5 - shift;
      context.moveTo(0, y);
      context.lineTo(side, y);
    }
    context.stroke();
  }
}

/** The border of the painted region, and a shade over all that is outside of it. */
function drawRegion(context, side) {
  if (!state.region.size) return;
  const { rows, columns, width, height } = cellsOf(side);
  const inside = (row, column) =>
    row >= 0 && column >= 0 && row < rows && column < columns &&
    state.region.has(row * columns + column);
  context.fillStyle = "rgba(20, 22, 25, .34)";
  const edges = [];
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const [x, y] = [column * width, row * height];
      if (!inside(row, column)) {
        context.fillRect(x, y, width + 0.5, height + 0.5);
        continue;
      }
      if (!inside(row - 1, column)) edges.push([x, y, x + width, y]);
      if (!inside(row + 1, column)) edges.push([x, y + height, x + width, y + height]);
      if (!inside(row, column - 1)) edges.push([x, y, x, y + height]);
      if (!inside(row, column + 1)) edges.push([x + width, y, x + width, y + height]);
    }
  }
  for (const [style, thick] of [["#ffffff", 5], ["#b8420a", 3]]) {
    context.strokeStyle = style;
    context.lineWidth = thick;
    context.lineCap = "round";
    context.beginPath();
    for (const [x1, y1, x2, y2] of edges) {
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
    }
    context.stroke();
  }
}

/** Draws the stage. */
export function drawMap(after) {
  const canvas = part("canvas");
  const { context, side } = prepared(canvas);
  if (!state.picture) return;
  drawPicture(context, side);
  const map = shownMap(after);
  if (map) {
    const { columns, width, height } = cellsOf(side);
    map.colors.forEach((color, at) => {
      context.fillStyle = color;
      const [x, y] = [Math.round((at % columns) * width), Math.round(Math.floor(at / columns) * height)];
      context.fillRect(x, y, Math.ceil(width), Math.ceil(height));
    });
  }
  if (state.grid_lines) drawLines(context, side);
  drawRegion(context, side);
  describe(canvas, map, after);
}

function describe(canvas, map, after) {
  const knock = part("knock-shown");
  knock.disabled = !map;
  if (!map) {
    canvas.setAttribute("aria-label", `${state.picture.name}, without a map`);
    part("map-name").textContent = "";
    part("legend-text").textContent = "";
    return;
  }
  const { name } = state.concepts.get(map.id);
  const edit = after.get(map.id)?.edit;
  const knocked = edit?.op === "ablate";
  knock.setAttribute("aria-pressed", String(knocked));
  knock.setAttribute("aria-label", `Knock out ${name}`);
  part("map-name").textContent = name;
  const strongest = map.values.indexOf(Math.max(...map.values));
  const { columns } = state.grid;
  canvas.setAttribute(
    "aria-label",
    map.values[strongest] > 0
      ? `${state.picture.name} with the map of ${name}: strongest in row ` +
        `${Math.floor(strongest / columns) + 1}, column ${(strongest % columns) + 1}`
      : `${state.picture.name}: ${name} fires nowhere`,
  );
  part("legend-text").textContent =
    state.scale === "z"
      ? `−${MOST_Z} sd · mean ${short(map.middle)}, sd ${short(map.deviation)} · +${MOST_Z} sd`
      : `0 · mean ${short(mean(map.values))} · ${short(map.peak)}`;
}

/** Draws the ramp of colours under the stage. */
export function drawLegend() {
  const canvas = part("legend");
  canvas.width = 120;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, 120, 1);
  for (let x = 0; x < 120; x += 1) {
    const share = x / 119;
    context.fillStyle = state.scale === "z" ? zColor(MOST_Z * (2 * share - 1)) : rawColor(share);
    context.fillRect(x, 0, 1, 1);
  }
}
