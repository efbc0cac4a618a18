// Two pictures compared by the concepts that they share: whole codes, not the strongest alone.

import { model, studio } from "./api.js";
import { complain, forgive, make, part, percent, setPart, short } from "./dom.js";
import { base64, checkFile } from "./picture.js";
import { image, titleOf } from "./gallery.js";
import { on, state } from "./state.js";

const NAMED = 64;
const SHOWN = 8;

/** The cosine of two codes, and what each concept adds to it or is only in one of them. */
export function compared(first, second) {
  const unit = ({ sparse }) => new Map(
    sparse.indices.map((id, at) => [id, sparse.values[at] / (sparse.norm || 1)]));
  const [a, b] = [unit(first), unit(second)];
  const shared = [...a].filter(([id]) => b.has(id))
    .map(([id, value]) => ({ id, first: value, second: b.get(id), part: value * b.get(id) }))
    .sort((x, y) => y.part - x.part);
  const only = (one, other) => [...one].filter(([id]) => !other.has(id))
    .map(([id, value]) => ({ id, value })).sort((x, y) => y.value - x.value);
  const cosine = shared.reduce((sum, { part: share }) => sum + share, 0);
  return { cosine, shared, onlyFirst: only(a, b), onlySecond: only(b, a) };
}

function heading(names) {
  return make("thead", {}, make("tr", {},
    make("th", { scope: "col", text: "shared concept" }),
    ...names.map((name) => make("th", { scope: "col", class: "number", text: name })),
    make("th", { scope: "col", class: "number", text: "adds to the cosine" })));
}

function show(name, thumb, results) {
  const names = new Map(results.flatMap(({ concepts }) => concepts)
    .map((concept) => [concept.concept_id, concept.name]));
  const called = (id) => names.get(id) ?? state.concepts.get(id)?.name ?? `concept ${id}`;
  const { cosine, shared, onlyFirst, onlySecond } = compared(...results);
  const most = shared[0]?.part || 1;
  const rows = shared.slice(0, SHOWN).map((entry) => {
    const bar = make("td", { class: "number mono bar-cell", text: short(entry.part) });
    setPart(bar, entry.part / most);
    return make("tr", {}, make("th", { scope: "row", text: called(entry.id) }),
      make("td", { class: "number mono", text: short(entry.first) }),
      make("td", { class: "number mono", text: short(entry.second) }), bar);
  });
  const list = (title, entries) => make("p", { class: "note" }, make("b", { text: `${title}: ` }),
    entries.slice(0, 6).map(({ id }) => called(id)).join(", ") || "nothing");
  const here = titleOf(state.picture.name);
  part("compare").replaceChildren(
    make("div", { class: "row" }, thumb, make("p", {},
      make("b", { class: "mono", text: short(cosine) }), ` cosine, from ${shared.length} shared concepts; ` +
      `the ${Math.min(SHOWN, shared.length)} shown account for ` +
      percent(cosine ? shared.slice(0, SHOWN).reduce((sum, e) => sum + e.part, 0) / cosine : 0))),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Shared concepts" },
      make("table", {}, heading([here, name]), make("tbody", {}, ...rows))),
    list(`Only in ${here}`, onlyFirst), list(`Only in ${name}`, onlySecond));
}

async function compare(blob, name, thumb) {
  if (!state.picture) {
    complain("Choose a picture first.");
    return;
  }
  const picture = state.picture;
  try {
    forgive();
    checkFile(blob);
    const images = [picture.data, await base64(blob)];
    const { results } = await model.embed({
      inputs: images.map((data) => ({ image: data })),
      outputs: { sparse: true, top_concepts: NAMED },
    });
    const failed = results.find(({ status }) => status?.code);
    if (failed) throw new Error(`The server refused: ${failed.status.message}.`);
    if (state.picture === picture) show(name, thumb, results);
  } catch (error) {
    complain(error);
  }
}

function fill() {
  const select = part("compare-with");
  if (select.options.length) return;
  select.append(make("option", { value: "", text: "a picture of the gallery" }),
    ...state.settings.pictures.map(({ name }) => make("option", { value: name, text: titleOf(name) })));
}

export function listen() {
  const [select, input] = [part("compare-with"), part("compare-file")];
  select.addEventListener("change", async () => {
    const name = select.value;
    if (!name) return;
    try {
      await compare(await studio.picture(name), titleOf(name), image(name));
    } catch (error) {
      complain(error);
    }
  });
  part("compare-choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = "";
    if (file) compare(file, file.name, null);
  });
  on("settings", fill);
  on("picture", () => {
    part("compare").replaceChildren();
    select.value = "";
  });
}
