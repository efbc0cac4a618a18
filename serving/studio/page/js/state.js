// What the page knows: one picture, its maps, and the edits of them. No element is touched here.

import { expand, editedMap, mean } from "./plan.js";

/** How many of the strongest concepts the server explains: the most that one call may ask for. */
export const EXPLAINED = 32;

export const state = {
  /** GetModelResponse of the server's model, and the studio's own settings. */
  model: null,
  settings: { chat: { available: false, top: 32, strength: 0.5, reason: "" }, server: "" },
  /** {name, blob, data, bitmap, gallery}; `gallery` is the file name of a gallery picture. */
  picture: null,
  grid: { rows: 0, columns: 0 },
  /** Whether a concept's value is the mean of its map. */
  exact: true,
  coverage: null,
  captions: [],
  /** Concept ids to {id, name, value, confidence, hub}. */
  concepts: new Map(),
  /** Concept ids to the activations on every patch, before the edits. */
  maps: new Map(),
  /** The picture's strongest concepts, strongest first. */
  ranked: [],
  /** Phrases to {coverage, concepts: [{id, name, activation}]}, strongest first. */
  words: new Map(),
  edits: [],
  strength: 1,
  /** The painted patches. Edits that follow the region act on these only; none means all. */
  region: new Set(),
  selected: null,
  hovered: null,
  scale: "z",
  grid_lines: true,
  painting: false,
};

const listeners = new Map();

/** Calls `listener` after each `topic`: picture, plan, focus, words, answers, settings. */
export function on(topic, listener) {
  if (!listeners.has(topic)) listeners.set(topic, []);
  listeners.get(topic).push(listener);
}

export function emit(topic, detail) {
  for (const listener of listeners.get(topic) ?? []) listener(detail);
}

/** The concept whose map is shown: what the pointer or the keyboard is on, or what was chosen. */
export function shown() {
  return state.hovered ?? state.selected;
}

export function focusOn(id, { choose = false } = {}) {
  if (choose) state.selected = id;
  state.hovered = choose ? null : id;
  emit("focus");
}

/** Keeps what the server said of concepts on this picture. */
export function learn(explanations) {
  for (const { concept, values } of explanations) {
    state.concepts.set(concept.concept_id, {
      id: concept.concept_id,
      name: concept.name,
      value: concept.value,
      confidence: concept.name_confidence ?? null,
      hub: Boolean(concept.hub),
    });
    state.maps.set(concept.concept_id, Float32Array.from(values));
  }
}

/** The plan's effect on this picture, worked out here: no model runs. Concepts whose map is not
 * known yet are left out. */
export function preview() {
  const patches = state.grid.rows * state.grid.columns;
  const after = new Map();
  for (const [id, edit] of expand(resolved(), state.words)) {
    const old = state.maps.get(id);
    if (!old) continue;
    const values = editedMap(old, edit, state.strength, patches);
    after.set(id, { values, before: mean(old), after: mean(values), edit });
  }
  return after;
}

/** The edits with their patches: those of the region for all that follow it. */
export function resolved() {
  const region = [...state.region].sort((a, b) => a - b);
  return state.edits.map(({ frozen, ...edit }) => {
    const patches = frozen ?? (region.length ? region : null);
    return { ...edit, patches };
  });
}

/** A concept's value on this picture before the edits, on the scale of the server's audit. */
export function valueOf(id) {
  const map = state.maps.get(id);
  return state.exact && map ? mean(map) : (state.concepts.get(id)?.value ?? 0);
}
