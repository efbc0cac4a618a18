// The plan: a list of edits, each of one concept or of a word's concepts.

import { complain, forgive, make, part, say, short } from "./dom.js";
import { OPS, sameTarget, targetName } from "./plan.js";
import { emit, on, state } from "./state.js";

const OP_NAMES = { set: "set to", add: "add", scale: "times", ablate: "knock out" };

export function editOf(id) {
  return state.edits.find((edit) => edit.concept_id === id);
}

function changed({ rebuild }) {
  if (rebuild) build();
  emit("plan");
}

/** Edits one concept; a factor of 1 is no edit. */
export function editConcept(id, op, value) {
  const edit = editOf(id);
  if (op === "scale" && value === 1) {
    if (edit) remove(edit);
    return;
  }
  if (edit) {
    const rebuild = edit.op !== op;
    Object.assign(edit, { op, value });
    if (!rebuild) showValue(edit);
    changed({ rebuild });
    return;
  }
  add({ concept_id: id, op, value, frozen: null });
}

/** Adds an edit, unless another one has its target: the server would refuse the plan. */
export function add(edit) {
  const same = sameTarget(state.edits, edit, state.concepts);
  if (same >= 0) {
    complain(`“${targetName(edit, state.concepts)}” is edited already, in edit ${same + 1} of the plan.`);
    emit("plan");
    return false;
  }
  forgive();
  state.edits.push(edit);
  changed({ rebuild: true });
  return true;
}

export function remove(edit) {
  state.edits = state.edits.filter((other) => other !== edit);
  changed({ rebuild: true });
}

/** Takes the place of the whole plan. */
export function replacePlan({ edits, strength }) {
  const shared = edits.length ? edits[0].patches : null;
  const same = edits.every(({ patches }) => JSON.stringify(patches) === JSON.stringify(shared));
  state.region = new Set(same && shared ? shared : []);
  state.edits = edits.map(({ patches, ...edit }) => ({
    ...edit,
    ...(edit.phrase === undefined ? {} : { top: edit.top ?? state.settings.chat.top }),
    // Where edits have regions of their own, each keeps its own.
    frozen: same ? null : patches ?? [],
  }));
  for (const edit of state.edits) if (edit.frozen && !edit.frozen.length) edit.frozen = null;
  state.strength = strength;
  part("strength").value = strength;
  emit("region");
  changed({ rebuild: true });
}

function label(edit) {
  const name = targetName(edit, state.concepts);
  if (edit.phrase === undefined) return make("span", { class: "target", text: name });
  const word = state.words.get(edit.phrase);
  const unknown = word?.coverage?.unknown_words ?? [];
  const count = Math.min(edit.top, word?.concepts.length ?? edit.top);
  return make("span", { class: "target" },
    make("span", { text: `“${name}”` }),
    make("small", { class: "faint", text: `a word: ${count} ${count === 1 ? "concept" : "concepts"}` }),
    unknown.length ? make("small", { class: "warn", text: `not known: ${unknown.join(", ")}` }) : null);
}

/** The elements of an edit that follow its value, by edit. */
const shownValues = new WeakMap();

function showValue(edit) {
  const fields = shownValues.get(edit);
  if (!fields) return;
  if (Number(fields.number.value) !== edit.value) fields.number.value = Number(edit.value.toFixed(3));
}

function operation(edit, name) {
  const select = make("select", {
    "aria-label": `${name}: operation`,
    on: {
      change: () => {
        edit.op = select.value;
        if (edit.op === "set" || edit.op === "add") edit.value = state.settings.chat.strength;
        if (edit.op === "scale") edit.value = 0.5;
        changed({ rebuild: true });
        say(`${name}: ${OP_NAMES[edit.op]}`);
      },
    },
  }, ...OPS.map((op) => make("option", { value: op, text: OP_NAMES[op], selected: op === edit.op })));
  return select;
}

function amount(edit, name) {
  const number = make("input", {
    type: "number", class: "mono", min: edit.op === "add" ? -10 : 0, max: 10, step: 0.05,
    value: Number(edit.value.toFixed(3)), "aria-label": `${name}: value`,
    on: {
      input: () => {
        if (number.value === "" || !number.validity.valid) return;
        edit.value = Number(number.value);
        changed({ rebuild: false });
      },
      change: () => showValue(edit),
    },
  });
  shownValues.set(edit, { number });
  return edit.op === "ablate" ? make("span") : number;
}

function place(edit, name) {
  const size = edit.frozen ? edit.frozen.length : state.region.size;
  const where = size ? `${size} ${size === 1 ? "patch" : "patches"}` : "whole picture";
  const held = Boolean(edit.frozen);
  return make("button", {
    type: "button", class: "place quiet", text: held ? `${where}, kept` : where,
    "aria-pressed": String(held),
    "aria-label": `${held ? `${where}, kept` : where}: where ${name} is edited. Keep these patches`,
    title: held ? "Follow the painted region again" : "Keep these patches when the region changes",
    disabled: !held && !state.region.size,
    on: {
      click: () => {
        edit.frozen = held ? null : [...state.region].sort((a, b) => a - b);
        changed({ rebuild: true });
      },
    },
  });
}

function item(edit) {
  const name = targetName(edit, state.concepts);
  return make("li", { class: "edit" }, label(edit), operation(edit, name), amount(edit, name),
    place(edit, name),
    make("button", {
      type: "button", class: "remove quiet", text: "×", "aria-label": `Remove the edit of ${name}`,
      on: {
        click: () => {
          remove(edit);
          (document.querySelector("#edits .remove") ?? part("word")).focus();
        },
      },
    }));
}

function build() {
  part("edits").replaceChildren(...state.edits.map(item));
  part("reset").disabled = !state.edits.length;
  const count = state.edits.length;
  part("plan-note").textContent = count ? `${count} in the plan` : "none: move a slider, or add a word";
}

export function drawStrength() {
  part("strength-value").textContent = state.strength.toFixed(2);
}

export function listen() {
  part("strength").addEventListener("input", () => {
    state.strength = Number(part("strength").value);
    emit("plan");
  });
  part("reset").addEventListener("click", () => {
    state.edits = [];
    changed({ rebuild: true });
    say("All edits are removed.");
    part("word").focus();
  });
  on("picture", build);
  on("region", build);
  build();
}

/** Whether the plan changes anything, for notes of other parts. */
export function summary() {
  return state.edits.map((edit) => `${targetName(edit, state.concepts)} ${OP_NAMES[edit.op]} ` +
    (edit.op === "ablate" ? "" : short(edit.value))).join(", ").trim();
}
