// Edits of concepts, as the server applies them: mllm_adapter/steering has the same in Python, and
// a test compares the two. Pure functions on numbers.

export const OPS = ["set", "add", "scale", "ablate"];

/** Where two words share a concept, the operation that is later in this list wins. */
const PRECEDENCE = ["ablate", "scale", "add", "set"];

/** One spelling for names that read alike, so that no target is edited twice. */
export function folded(text) {
  return text.normalize("NFKC").toLowerCase().trim().replace(/\s+/g, " ");
}

/** What an edit names, as text. */
export function targetName(edit, concepts) {
  return edit.phrase ?? concepts.get(edit.concept_id)?.name ?? `concept ${edit.concept_id}`;
}

/** The index of the edit that names the same target as `wanted`, or -1. */
export function sameTarget(edits, wanted, concepts) {
  const spelling = folded(targetName(wanted, concepts));
  return edits.findIndex(
    (edit) =>
      (edit.concept_id !== undefined && edit.concept_id === wanted.concept_id) ||
      folded(targetName(edit, concepts)) === spelling,
  );
}

/** Concept ids to {op, value, patches, from}: each concept once, words replaced by their concepts.
 * `from` is the position of the edit that takes effect. An edit of a concept wins over words. */
export function expand(edits, words) {
  const byConcept = new Map();
  const phrases = edits
    .map((edit, from) => ({ edit, from }))
    .filter(({ edit }) => edit.phrase !== undefined)
    .sort((a, b) => PRECEDENCE.indexOf(a.edit.op) - PRECEDENCE.indexOf(b.edit.op));
  for (const { edit, from } of phrases) {
    const known = (words.get(edit.phrase)?.concepts ?? []).slice(0, edit.top);
    for (const { id, activation } of known) {
      let value = edit.op === "ablate" ? 0 : edit.value;
      if (edit.op === "set" || edit.op === "add") value *= activation / known[0].activation;
      byConcept.set(id, { op: edit.op, value, patches: edit.patches, from });
    }
  }
  edits.forEach((edit, from) => {
    if (edit.concept_id === undefined) return;
    const { op, value, patches } = edit;
    byConcept.set(edit.concept_id, { op, value, patches, from });
  });
  return byConcept;
}

/** [scale, shift]: an activation a becomes max(0, scale * a + shift). */
function affine({ op, value }) {
  if (op === "set") return [0, value];
  if (op === "add") return [1, value];
  return op === "scale" ? [value, 0] : [0, 0];
}

/** A concept's map after an edit; the input is not changed. */
export function editedMap(old, edit, strength, patches) {
  const [scale, shift] = affine(edit);
  const values = Float32Array.from(old);
  const change = (patch) => {
    const edited = Math.max(0, scale * old[patch] + shift);
    values[patch] = old[patch] + strength * (edited - old[patch]);
  };
  if (edit.patches) edit.patches.filter((patch) => patch < patches).forEach(change);
  else for (let patch = 0; patch < patches; patch += 1) change(patch);
  return values;
}

export function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return values.length ? sum / values.length : 0;
}

/** The mean and the standard deviation of a map. */
export function spread(values) {
  const middle = mean(values);
  let squares = 0;
  for (const value of values) squares += (value - middle) ** 2;
  return { middle, deviation: values.length ? Math.sqrt(squares / values.length) : 0 };
}

/** The plan as `steering` of /v1/chat/completions; null where it changes nothing. */
export function toSteering(edits, strength) {
  if (!edits.length) return null;
  return { edits: edits.map(toRequest), strength };
}

function toRequest({ concept_id, phrase, op, value, top, patches }) {
  const edit = phrase === undefined ? { concept_id } : { phrase, top };
  edit.op = op;
  if (op !== "ablate") edit.value = value;
  if (patches) edit.patches = patches;
  return edit;
}

/** Reads what `toSteering` wrote, from a link that anybody may have made. Throws for anything
 * that is not a plan. */
export function fromSteering(data) {
  const refuse = (what) => { throw new Error(`The link's plan cannot be read: ${what}.`); };
  if (!data || !Array.isArray(data.edits)) refuse("it has no edits");
  if (data.edits.length > 64) refuse("it has more than 64 edits");
  const strength = data.strength ?? 1;
  if (!(strength >= 0 && strength <= 1)) refuse("its strength is not 0 to 1");
  const whole = (value, most) => Number.isInteger(value) && value >= 0 && value <= most;
  const edits = data.edits.map((edit, at) => {
    const here = `edit ${at + 1}`;
    if (!edit || !OPS.includes(edit.op)) refuse(`${here} has no operation`);
    const phrase = typeof edit.phrase === "string" && edit.phrase.trim() ? edit.phrase : undefined;
    if (phrase === undefined && !whole(edit.concept_id, 2 ** 31)) refuse(`${here} has no target`);
    const value = edit.op === "ablate" ? 0 : edit.value;
    if (!Number.isFinite(value) || Math.abs(value) > 1e4) refuse(`${here} has no value`);
    if (value < 0 && edit.op !== "add") refuse(`${here} has a value below 0`);
    const patches = edit.patches ?? null;
    const right = (patch) => whole(patch, 1e6);
    if (patches && !(Array.isArray(patches) && patches.length && patches.every(right))) {
      refuse(`${here} has patches that are no numbers`);
    }
    const top = whole(edit.top, 1000) && edit.top > 0 ? edit.top : undefined;
    return phrase === undefined
      ? { concept_id: edit.concept_id, op: edit.op, value, patches }
      : { phrase, top, op: edit.op, value, patches };
  });
  return { edits, strength };
}
