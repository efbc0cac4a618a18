// A word becomes concepts, or names one: what the text tower answers is shown while one types.

import { model } from "./api.js";
import { complain, make, part, percent, say, settled, short } from "./dom.js";
import { add } from "./edits.js";
import { fetchMaps } from "./picture.js";
import { emit, state } from "./state.js";

const SHOWN = 7;
/** Room for the concepts of a word among the matches by name. */
const LIMIT = 100;

let options = [];
let active = -1;
let running = new AbortController();

/** What the text tower answers for a phrase: {coverage, concepts, matches}. Kept. */
export async function lookUp(phrase, signal) {
  if (state.words.has(phrase)) return state.words.get(phrase);
  const { matches, coverage } = await model.search(phrase, LIMIT, signal);
  const concepts = matches
    .filter(({ activation }) => activation > 0)
    .map(({ concept, activation }) => ({ id: concept.concept_id, name: concept.name, activation }))
    .sort((a, b) => b.activation - a.activation || a.id - b.id);
  const word = { coverage, concepts, matches };
  state.words.set(phrase, word);
  return word;
}

/** One sentence on what is wrong with a word, or "". */
export function doubt(phrase, { coverage, concepts }) {
  if (!concepts.length) return `No concept answers to “${phrase}”.`;
  const unknown = coverage?.unknown_words ?? [];
  if (unknown.length) {
    const words = unknown.map((word) => `“${word}”`).join(", ");
    const many = unknown.length > 1;
    return `The model does not know ${words}: ${many ? "they" : "it"} will rarely steer to what ` +
      `${many ? "they mean" : "it means"}.`;
  }
  return coverage?.truncated ? "The text is too long: its end was not read." : "";
}

/** Adds a word to the plan, and fetches the maps of its concepts. Whether it was added. */
export async function addWord(phrase, op = "set") {
  const word = await lookUp(phrase);
  const problem = doubt(phrase, word);
  part("word-note").textContent = problem;
  if (!word.concepts.length) return false;
  const { top, strength } = state.settings.chat;
  await fetchMaps(word.concepts.slice(0, top).map(({ id }) => id));
  const value = op === "ablate" ? 0 : strength;
  return add({ phrase, op, value, top, frozen: null });
}

async function addConcept(id, name) {
  await fetchMaps([id]);
  if (add({ concept_id: id, op: "set", value: state.settings.chat.strength, frozen: null })) {
    say(`${name} is added to the plan.`);
  }
}

function close() {
  options = [];
  active = -1;
  part("word-options").hidden = true;
  part("word-options").replaceChildren();
  part("word").setAttribute("aria-expanded", "false");
  part("word").removeAttribute("aria-activedescendant");
}

function highlight(at) {
  active = at;
  const items = [...part("word-options").children];
  items.forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
  const input = part("word");
  if (at < 0) input.removeAttribute("aria-activedescendant");
  else {
    input.setAttribute("aria-activedescendant", items[at].id);
    items[at].scrollIntoView({ block: "nearest" });
  }
}

function option(at, { title, detail }) {
  return make("li", {
    role: "option", id: `word-option-${at}`, "aria-selected": "false",
    on: {
      pointerdown: (event) => { event.preventDefault(); take(at); },
      pointerenter: () => highlight(at),
    },
  }, make("span", { text: title }), make("small", { class: "faint", text: detail }));
}

function suggest(phrase, word) {
  const strongest = word.concepts.slice(0, 2).map(({ name }) => name).join(", ");
  options = word.concepts.length
    ? [{
        title: `the word “${phrase}”`,
        detail: `${Math.min(word.concepts.length, state.settings.chat.top)} concepts: ${strongest}, …`,
        run: () => addWord(phrase),
      }]
    : [];
  for (const { concept, activation } of word.matches.slice(0, SHOWN)) {
    const sure = concept.name_confidence == null ? "" : `, name ${percent(concept.name_confidence)}`;
    options.push({
      title: concept.name,
      detail: `one concept, ${activation > 0 ? short(activation) : "by its name"}${sure}`,
      run: () => addConcept(concept.concept_id, concept.name),
    });
  }
  part("word-options").replaceChildren(...options.map((one, at) => option(at, one)));
  part("word-options").hidden = !options.length;
  part("word").setAttribute("aria-expanded", String(options.length > 0));
  highlight(-1);
  part("word-note").textContent = doubt(phrase, word);
}

const type = settled(async () => {
  const phrase = part("word").value.trim();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  if (!phrase) {
    close();
    part("word-note").textContent = "";
    return;
  }
  try {
    const word = await lookUp(phrase, signal);
    if (!signal.aborted && part("word").value.trim() === phrase) suggest(phrase, word);
  } catch (error) {
    complain(error);
  }
}, 140);

async function run(task) {
  // What is typed was taken: no suggestions for it come late.
  type.cancel();
  running.abort();
  close();
  try {
    if ((await task()) !== false) part("word").value = "";
  } catch (error) {
    complain(error);
  }
  part("word").focus();
  emit("words");
}

function take(at) {
  const { run: task } = options[at];
  run(task);
}

export function listen() {
  const input = part("word");
  input.addEventListener("input", type);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown" && options.length) highlight((active + 1) % options.length);
    else if (event.key === "ArrowUp" && options.length) {
      highlight((active - 1 + options.length) % options.length);
    } else return;
    event.preventDefault();
  });
  part("word-out").addEventListener("click", () => {
    const phrase = input.value.trim();
    if (phrase) run(() => addWord(phrase, "ablate"));
    else input.focus();
  });
  part("word-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const phrase = input.value.trim();
    if (active >= 0) take(active);
    else if (phrase) run(() => addWord(phrase));
  });
}
