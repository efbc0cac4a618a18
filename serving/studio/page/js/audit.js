// What else an edit changed, by the server's audit of what the language model read.

import { make, part, setPart, short } from "./dom.js";
import { folded, targetName } from "./plan.js";
import { on, state } from "./state.js";

/** Changes smaller than this share of the strongest value are none: rounding of 32-bit numbers. */
const SAME = 1e-6;

/** The strongest concepts before and after, as removed, new, changed and persisted. */
export function sorted({ before, after, edited }) {
  const ids = (list) => new Map(list.map((concept) => [concept.concept_id, concept]));
  const [was, is] = [ids(before), ids(after)];
  const changes = new Map(edited.map((concept) => [concept.concept_id, concept]));
  const values = (id, name) => {
    const change = changes.get(id);
    const old = change?.before ?? was.get(id)?.value ?? is.get(id)?.value ?? 0;
    return { id, name, before: old, after: change?.after ?? is.get(id)?.value ?? old };
  };
  const groups = { removed: [], changed: [], joined: [], persisted: [], pushed: [] };
  for (const [id, { name }] of was) {
    const entry = values(id, name);
    const same = Math.abs(entry.after - entry.before) <= SAME * Math.max(1, entry.before);
    if (entry.after <= SAME) groups.removed.push(entry);
    else if (!is.has(id) && same) groups.pushed.push(entry);
    else (same ? groups.persisted : groups.changed).push(entry);
  }
  for (const [id, { name }] of is) if (!was.has(id)) groups.joined.push(values(id, name));
  return groups;
}

/** Concepts that changed though no edit names them: a word brought them along. */
function brought(edited, edits) {
  const named = new Set(edits.filter(({ phrase }) => phrase).map(({ phrase }) => folded(phrase)));
  return edited.filter(({ before, after, edits: from, concept_id, name }) => {
    if (named.has(folded(name))) return false;
    if (Math.abs(after - before) <= SAME) return false;
    return !from.some((at) => edits[at]?.concept_id === concept_id);
  });
}

const TITLES = {
  removed: "Removed",
  joined: "New among the ten",
  changed: "Changed",
  pushed: "Pushed out of the ten",
  persisted: "As before",
};

function line({ name, before, after }, most) {
  const track = make("span", { class: "track" }, make("i", { class: "was" }), make("i", { class: "now" }));
  setPart(track.firstChild, before / most);
  setPart(track.lastChild, after / most);
  const same = Math.abs(before - after) <= SAME;
  return make("li", { class: same ? "" : "edited" }, make("span", { class: "audit-name", text: name }), track,
    make("span", { class: "mono", text: same ? short(after) : `${short(before)} → ${short(after)}` }));
}

function show({ start, edits }) {
  const image = start.images?.[0];
  part("audit").hidden = !image;
  if (!image) return;
  const groups = sorted(image);
  const most = Math.max(...Object.values(groups).flat().flatMap((e) => [e.before, e.after]), 1e-9);
  const lists = Object.entries(TITLES).filter(([key]) => groups[key].length).map(([key, title]) =>
    make("div", { class: `audit-group ${key}` },
      make("h4", { text: `${title} (${groups[key].length})` }),
      make("ul", {}, ...groups[key].map((entry) => line(entry, most)))));
  const along = brought(image.edited, edits);
  const words = edits.filter((edit) => edit.phrase !== undefined)
    .map((edit) => `“${targetName(edit, state.concepts)}”`).join(", ");
  const notes = [];
  if (along.length) {
    const names = along.slice(0, 6).map(({ name }) => name).join(", ");
    notes.push(`${words} moved ${along.length} concepts that you did not name: ${names}` +
      `${along.length > 6 ? ", …" : "."}`);
  }
  for (const { phrase, coverage } of start.phrases ?? []) {
    const unknown = coverage?.unknown_words ?? [];
    if (unknown.length) notes.push(`In “${phrase}” the model does not know: ${unknown.join(", ")}.`);
  }
  if (!image.edited.length) notes.push("Nothing: the plan has no edits yet.");
  part("audit-body").replaceChildren(
    ...notes.map((text) => make("p", { class: "note", text })),
    image.edited.length ? make("div", { class: "audit-groups" }, ...lists) : "");
}

export function listen() {
  on("audit", show);
}
