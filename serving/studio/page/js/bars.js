// The strongest concepts as bars, each with a slider that suppresses before it boosts.

import { make, part, percent, setPart, short } from "./dom.js";
import { editConcept, editOf } from "./edits.js";
import { focusOn, on, preview, shown, state, valueOf } from "./state.js";

const FIRST = 16;
const ADDED = 8;
/** A name under this confidence is shown as doubtful. */
const DOUBTFUL = 0.5;

let all = false;
/** Concept ids to the parts of their rows that change. */
const rows = new Map();

function trust({ confidence, hub }) {
  if (hub) return { text: "hub", title: "Fires on many unrelated pictures: it says little about this one" };
  if (confidence === null) return { text: "", title: "" };
  const title = `Of names with such a score, ${percent(confidence)} are borne out by held-out pictures`;
  return { text: percent(confidence), title };
}

function row(id, rank) {
  const concept = state.concepts.get(id);
  const { text, title } = trust(concept);
  const was = make("i", { class: "was" });
  const now = make("i", { class: "now" });
  const value = make("output", { class: "value mono" });
  const slider = make("input", {
    type: "range", min: 0, max: 2, step: 0.01, class: "slider",
    "aria-label": `${concept.name}: factor`,
    on: { input: () => editConcept(id, "scale", Number(slider.value)) },
  });
  const factor = make("button", {
    type: "button", class: "factor mono", title: "Back to 1×", tabindex: -1, "aria-hidden": "true",
    on: { click: () => editConcept(id, "scale", 1) },
  });
  const knock = make("button", {
    type: "button", class: "knock mono", text: "0×", title: "Knock out",
    "aria-label": `0×: knock out ${concept.name}`,
    on: { click: () => toggleKnock(id) },
  });
  const name = make("button", {
    type: "button", class: "name", title: concept.name,
    on: { click: () => focusOn(id, { choose: true }) },
  }, make("span", { text: concept.name }));
  const doubtful = concept.hub || (concept.confidence ?? 1) < DOUBTFUL;
  const item = make("li", {
    class: doubtful ? "bar doubtful" : "bar", "data-id": id,
    on: {
      pointerenter: () => focusOn(id),
      pointerleave: () => focusOn(null),
      focusin: () => focusOn(id, { choose: true }),
      keydown: (event) => onKey(event, id),
    },
  },
  make("span", { class: "rank mono", text: rank ?? "+" }), name,
  make("span", { class: "trust", text, title, "aria-label": text ? `${text}: ${title}` : null,
    role: text ? "img" : null }),
  make("span", { class: "track" }, was, now), value, slider, factor, knock);
  rows.set(id, { item, was, now, value, slider, factor, knock });
  return item;
}

export function toggleKnock(id) {
  const knocked = editOf(id)?.op === "ablate";
  editConcept(id, knocked ? "scale" : "ablate", knocked ? 1 : 0);
}

/** Up and down go from concept to concept, but not on a slider, whose own keys they are. */
function onKey(event, id) {
  if (event.key === "k" || event.key === "K") toggleKnock(id);
  else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const items = [...document.querySelectorAll(".bars .bar")];
    const at = items.findIndex((item) => item.contains(event.target));
    const next = items[at + (event.key === "ArrowUp" ? -1 : 1)];
    const kind = [".slider", ".knock"].find((name) => event.target.matches(name)) ?? ".name";
    next?.querySelector(kind)?.focus();
  } else return;
  event.preventDefault();
}

/** Makes the rows anew: for another picture, or where an edit brought concepts in. */
function build() {
  rows.clear();
  const ids = all ? state.ranked : state.ranked.slice(0, FIRST);
  part("bars").replaceChildren(...ids.map((id, at) => row(id, at + 1)));
  const more = state.ranked.length - ids.length;
  part("more-bars").hidden = more <= 0;
  part("more-bars").textContent = `Show ${more} more`;
  const fires = state.ranked.length;
  part("concepts-note").textContent = state.picture
    ? `the ${fires} strongest on ${state.picture.name}` : "";
  addRows();
}

/** The ids of edited concepts that are not among the rows above, most changed first. */
function addedIds(after) {
  const listed = new Set(all ? state.ranked : state.ranked.slice(0, FIRST));
  const change = (id) => Math.abs(after.get(id).after - after.get(id).before);
  return [...after.keys()].filter((id) => !listed.has(id) && change(id) > 1e-9).sort((a, b) => change(b) - change(a));
}

function addRows(after = preview()) {
  const ids = addedIds(after).slice(0, ADDED);
  const there = [...part("added-bars").children].map(({ dataset }) => Number(dataset.id));
  part("added").hidden = !ids.length;
  if (ids.length === there.length && ids.every((id) => there.includes(id) && rows.has(id))) return;
  if (part("added-bars").contains(document.activeElement)) return;
  part("added-bars").replaceChildren(...ids.map((id) => row(id, null)));
}

/** Draws values, bars and sliders after the edits. */
export function drawBars(after) {
  addRows(after);
  const values = [...rows.keys()].flatMap((id) => [valueOf(id), after.get(id)?.after ?? 0]);
  const most = Math.max(...values, 1e-9);
  const current = shown();
  for (const [id, parts] of rows) {
    const { item, was, now, value, slider, factor, knock } = parts;
    const before = valueOf(id);
    const changed = after.get(id);
    const ended = changed ? changed.after : before;
    const edit = editOf(id);
    const key = [before, ended, most, id === current, edit?.op, edit?.value].join();
    // A row that shows this already is left alone; its slider may have been moved without effect.
    if (parts.key === key && edit?.op === "scale") continue;
    if (parts.key === key && Number(slider.value) === (edit?.op === "ablate" ? 0 : 1)) continue;
    parts.key = key;
    setPart(was, before / most);
    setPart(now, ended / most);
    value.textContent = short(ended);
    item.classList.toggle("edited", Math.abs(ended - before) > 1e-9);
    item.classList.toggle("own", Boolean(edit));
    item.classList.toggle("shown", id === current);
    const times = edit?.op === "ablate" ? 0 : edit?.op === "scale" ? edit.value : 1;
    if (Number(slider.value) !== times) slider.value = times;
    slider.setAttribute("aria-valuetext", `${times.toFixed(2)} times, value ${short(ended)}`);
    setPart(slider, times / 2);
    factor.textContent = edit && edit.op !== "scale" && edit.op !== "ablate" ? edit.op : `${times.toFixed(2)}×`;
    factor.classList.toggle("moved", times !== 1);
    knock.setAttribute("aria-pressed", String(edit?.op === "ablate"));
  }
}

export function listen() {
  part("more-bars").addEventListener("click", () => {
    const next = FIRST;
    all = true;
    build();
    drawBars(preview());
    part("bars").children[next]?.querySelector(".name").focus();
  });
  part("knock-shown").addEventListener("click", () => { if (shown() !== null) toggleKnock(shown()); });
  on("picture", build);
}
