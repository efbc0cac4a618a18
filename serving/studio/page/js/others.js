// The same edit on other pictures: does it generalise, and what does it harm?

import { model, studio } from "./api.js";
import { request } from "./answers.js";
import { base64 } from "./picture.js";
import { complain, forgive, make, part } from "./dom.js";
import { image, titleOf } from "./gallery.js";
import { expand, toSteering } from "./plan.js";
import { resolved, state } from "./state.js";

const CASES = 4;
let running = null;

/** Two pictures that show the edited concepts most, and others drawn at random. */
async function chosen(signal) {
  const names = state.settings.pictures.map(({ name }) => name)
    .filter((name) => name !== state.picture?.gallery);
  const edited = [...expand(resolved(), state.words).keys()]
    .map((concept_id) => ({ concept_id, weight: 1 }));
  const { hits } = edited.length ? await studio.search(edited, CASES, signal) : { hits: [] };
  const most = hits.map(({ picture }) => picture).filter((name) => names.includes(name)).slice(0, CASES / 2);
  const rest = names.filter((name) => !most.includes(name));
  while (most.length < CASES && rest.length) {
    most.push(...rest.splice(Math.floor(Math.random() * rest.length), 1));
  }
  return most;
}

function card(name) {
  const plain = make("p", { class: "case-text", text: "…" });
  const steered = make("p", { class: "case-text", text: "…" });
  const item = make("li", { class: "case" }, image(name), make("div", {},
    make("h3", { text: titleOf(name) }),
    make("dl", {}, make("dt", { text: "plain" }), make("dd", { class: "plain" }, plain),
      make("dt", { text: "steered" }), make("dd", { class: "steered" }, steered))));
  return { item, plain, steered };
}

async function answered(question, data, steering, target, signal) {
  const reply = await model.chat(request(question, data, steering), signal);
  target.textContent = reply.choices[0].message.content || "(an empty answer)";
  return target.textContent;
}

async function run() {
  running?.abort();
  const control = running = new AbortController();
  const { signal } = control;
  const steering = toSteering(resolved(), state.strength);
  const question = part("question").value.trim();
  if (!steering || !question) {
    complain(steering ? "Type a question first." : "The plan has no edits yet: move a slider, or add a word.");
    return;
  }
  forgive();
  part("others-stop").disabled = false;
  try {
    const cards = (await chosen(signal)).map((name) => ({ name, ...card(name) }));
    part("others").replaceChildren(...cards.map(({ item }) => item));
    for (const { name, plain, steered, item } of cards) {
      const data = await base64(await studio.picture(name));
      const texts = await Promise.all([
        answered(question, data, null, plain, signal),
        answered(question, data, steering, steered, signal),
      ]);
      item.classList.toggle("differs", texts[0] !== texts[1]);
    }
  } catch (error) {
    complain(error);
  } finally {
    if (running === control) part("others-stop").disabled = true;
  }
}

export function listen() {
  part("others-run").addEventListener("click", run);
  part("others-stop").addEventListener("click", () => running?.abort());
}
