// What is known of the chosen concept: its words, how far its name holds, and pictures that show it.

import { model, studio } from "./api.js";
import { make, part, percent, settled, short } from "./dom.js";
import { thumbnail } from "./gallery.js";
import { on, shown, state, valueOf } from "./state.js";
import { addTerm } from "./search.js";

const known = new Map();
let drawn = null;
let running = new AbortController();

async function facts(id, signal) {
  if (!known.has(id)) {
    const [{ concept }, { pictures }] = await Promise.all([
      model.concept(id, signal),
      studio.evidence(id, signal).catch(() => ({ pictures: [] })),
    ]);
    // Until the whole gallery is embedded, better pictures may come.
    if (!state.settings.ready) return { concept, pictures };
    known.set(id, { concept, pictures });
  }
  return known.get(id);
}

function fact(term, value) {
  return make("div", {}, make("dt", { text: term }), make("dd", { class: "mono", text: value }));
}

function named(concept) {
  if (concept.hub) return "A hub: it fires on many unrelated pictures and says little about this one.";
  if (concept.name_confidence == null) return "How far the name holds was not measured.";
  return `Of names with such a score, ${percent(concept.name_confidence)} are borne out by pictures ` +
    "that were held back.";
}

function show(id, { concept, pictures }) {
  const rank = state.ranked.indexOf(id);
  const numbers = make("dl", { class: "facts" },
    fact("value here", short(valueOf(id))),
    fact("rank here", rank >= 0 ? String(rank + 1) : "–"),
    fact("fires on", `${(100 * concept.frequency).toPrecision(2)}%`),
    concept.clarity == null ? null : fact("clarity", short(concept.clarity)));
  const words = make("ul", { class: "words", "aria-label": "Words that make it fire" },
    ...concept.words.slice(0, 8).map(({ source, value }) =>
      make("li", { title: `score ${short(value)}` }, source)));
  const evidence = make("ul", { class: "strip", "aria-label": "Pictures of the gallery that show it most" },
    ...pictures.map(({ picture, value }) => thumbnail(picture, { caption: short(value) })));
  part("card").replaceChildren(
    make("div", { class: "head" },
      make("h3", { id: "card-name", text: concept.name }),
      make("span", { class: "faint mono", text: `#${concept.concept_id}` })),
    make("p", { class: "note faint", text: named(concept) }),
    numbers,
    make("h4", { text: "Words" }),
    concept.words.length ? words : make("p", { class: "note faint", text: "No word makes it fire." }),
    make("h4", { text: "Pictures" }),
    pictures.length ? evidence
      : make("p", { class: "note faint", text: state.settings.ready
        ? "It fires on no picture of the gallery." : "The gallery is still being read." }),
    make("div", { class: "row" }, make("button", {
      type: "button", text: "Search for it", "aria-label": `Search for it in the gallery: ${concept.name}`,
      on: { click: () => addTerm({ id, name: concept.name }, 1, { reveal: true }) },
    })));
}

const draw = settled(async (id) => {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  try {
    const read = await facts(id, signal);
    if (signal.aborted) return;
    drawn = id;
    show(id, read);
    part("card").hidden = false;
  } catch {
    // The bars say what matters; a card that cannot be had is no error of the visitor.
    if (!signal.aborted) part("card").hidden = true;
  }
}, 120);

export function listen() {
  on("focus", () => {
    const id = shown();
    if (id !== null && id !== drawn) draw(id);
  });
  let waited = false;
  on("settings", () => {
    if (state.settings.ready && waited && shown() !== null) draw(shown());
    waited = !state.settings.ready;
  });
  on("picture", () => {
    drawn = null;
    if (shown() === null) part("card").hidden = true;
    else draw(shown());
  });
}
