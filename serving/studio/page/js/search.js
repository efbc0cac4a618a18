// A search of the gallery by weighted concepts, with the reasons of each hit.

import { studio } from "./api.js";
import { complain, forgive, make, part, setPart, settled, short } from "./dom.js";
import { image, titleOf } from "./gallery.js";
import { openGallery } from "./picture.js";
import { state, valueOf } from "./state.js";
import { doubt, lookUp } from "./words.js";

const HITS = 12;
/** How many of a picture's concepts its search takes. */
const OF_PICTURE = 8;
/** How many concepts a word of a search stands for. */
const OF_WORD = 8;
/** When a search is repeated while the server still reads the gallery. */
const AGAIN_MS = 1000;

/** Terms: {name, weight, concepts: [{id, share}]}. */
let terms = [];
let running = new AbortController();
let again = 0;

/** Adds a concept to the search, or the weighted concepts of a word. */
export function addTerm(concept, weight, { reveal = false } = {}) {
  const concepts = concept.concepts ?? [{ id: concept.id, share: 1 }];
  if (terms.some(({ name }) => name === concept.name)) return;
  terms.push({ name: concept.name, weight, concepts });
  build();
  search();
  if (reveal) part("search-title").scrollIntoView({ block: "start", behavior: "auto" });
}

async function addTyped(text) {
  const word = await lookUp(text);
  const exact = word.matches.find(({ name_match }) => name_match);
  if (exact) {
    addTerm({ id: exact.concept.concept_id, name: exact.concept.name }, 1);
    return;
  }
  const problem = doubt(text, word);
  if (problem) complain(problem);
  if (!word.concepts.length) return;
  const most = word.concepts[0].activation;
  const concepts = word.concepts.slice(0, OF_WORD).map(({ id, activation }) => ({ id, share: activation / most }));
  addTerm({ name: `“${text}”`, concepts }, 1);
}

/** The weights of all terms, by concept. */
function weights() {
  const byConcept = new Map();
  for (const { weight, concepts } of terms) {
    for (const { id, share } of concepts) byConcept.set(id, (byConcept.get(id) ?? 0) + weight * share);
  }
  return [...byConcept].filter(([, weight]) => weight !== 0)
    .map(([concept_id, weight]) => ({ concept_id, weight }));
}

function term(entry) {
  const value = make("output", { class: "mono", text: entry.weight.toFixed(1) });
  const slider = make("input", {
    type: "range", min: -2, max: 2, step: 0.1, value: entry.weight, "aria-label": `Weight of ${entry.name}`,
    on: {
      input: () => {
        entry.weight = Number(slider.value);
        value.textContent = entry.weight.toFixed(1);
        searchSoon();
      },
    },
  });
  return make("li", {}, make("span", { class: "target", text: entry.name }), slider, value,
    make("button", {
      type: "button", class: "remove quiet", text: "×", "aria-label": `Remove ${entry.name}`,
      on: {
        click: () => {
          terms = terms.filter((other) => other !== entry);
          build();
          search();
          part("search-word").focus();
        },
      },
    }));
}

function build() {
  part("terms").replaceChildren(...terms.map(term));
  part("search-clear").disabled = !terms.length;
}

function reason({ name, contribution }, most) {
  const bar = make("i", {});
  setPart(bar, Math.abs(contribution) / most);
  return make("li", { class: contribution < 0 ? "against" : "" }, bar, make("span", { text: name }),
    make("span", { class: "mono", text: short(contribution) }));
}

function hit({ picture, score, reasons }) {
  const most = Math.max(...reasons.map(({ contribution }) => Math.abs(contribution)), 1e-9);
  return make("li", {}, make("button", {
    type: "button", class: "thumb", "aria-label": `Open ${titleOf(picture)}, score ${short(score)}`,
    on: { click: () => { openGallery(picture); scrollTo({ top: 0 }); } },
  }, image(picture)),
  make("div", {}, make("p", { class: "hit-name" }, make("span", { text: titleOf(picture) }),
    make("span", { class: "mono faint", text: short(score) })),
  make("ul", { class: "reasons", "aria-label": "Why it matched" },
    ...reasons.slice(0, 4).map((one) => reason(one, most)))));
}

async function search() {
  clearTimeout(again);
  running.abort();
  running = new AbortController();
  const wanted = weights();
  if (!wanted.length) {
    part("hits").replaceChildren();
    return;
  }
  try {
    forgive();
    const { hits, ready } = await studio.search(wanted, HITS, running.signal);
    part("hits").replaceChildren(...hits.map(hit));
    if (!ready) {
      part("hits").append(make("li", { class: "faint", text: "The gallery is still being read." }));
      again = setTimeout(search, AGAIN_MS);
    } else if (!hits.length) {
      part("hits").append(make("li", { class: "faint", text: "No picture shows them." }));
    }
  } catch (error) {
    complain(error);
  }
}

const searchSoon = settled(search, 80);

export function listen() {
  part("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = part("search-word").value.trim();
    if (!text) return;
    addTyped(text).then(() => { part("search-word").value = ""; }).catch(complain);
  });
  part("search-picture").addEventListener("click", () => {
    if (!state.picture) return;
    const ids = state.ranked.slice(0, OF_PICTURE);
    const most = valueOf(ids[0]) || 1;
    terms = ids.map((id) => ({
      name: state.concepts.get(id).name,
      weight: Number((valueOf(id) / most).toFixed(1)),
      concepts: [{ id, share: 1 }],
    }));
    build();
    search();
  });
  part("search-clear").addEventListener("click", () => {
    terms = [];
    build();
    search();
    part("search-word").focus();
  });
}
