// A link that holds the plan and the question, and the name of a gallery picture; never a picture.

import { complain, part, say } from "./dom.js";
import { replacePlan } from "./edits.js";
import { copy } from "./exports.js";
import { fromSteering, toSteering } from "./plan.js";
import { resolved, state } from "./state.js";
import { lookUp } from "./words.js";

const KEY = "#plan=";
const LONGEST = 32_768;

/** The address of this page with what it shows. */
export function link() {
  const shared = {
    question: part("question").value,
    steering: toSteering(resolved(), state.strength) ?? { edits: [], strength: state.strength },
  };
  if (state.picture?.gallery) shared.picture = state.picture.gallery;
  return `${location.origin}${location.pathname}${KEY}${encodeURIComponent(JSON.stringify(shared))}`;
}

/** What the address holds: {question, picture, plan}, or null. */
export function fromAddress(hash = location.hash) {
  if (!hash.startsWith(KEY)) return null;
  if (hash.length > LONGEST) throw new Error("The link is too long.");
  let shared;
  try {
    shared = JSON.parse(decodeURIComponent(hash.slice(KEY.length)));
  } catch {
    throw new Error("The link cannot be read: it is not whole.");
  }
  const question = typeof shared?.question === "string" ? shared.question.slice(0, 2000) : "";
  const picture = typeof shared?.picture === "string" ? shared.picture : null;
  return { question, picture, plan: fromSteering(shared?.steering) };
}

/** Takes over what a link holds; its words are looked up first, so that they can be shown. */
export async function receive({ question, plan }) {
  if (question) part("question").value = question;
  await Promise.all(plan.edits.filter(({ phrase }) => phrase).map(({ phrase }) => lookUp(phrase)));
  replacePlan(plan);
}

export function listen() {
  part("share").addEventListener("click", async () => {
    const address = link();
    history.replaceState(null, "", address);
    const without = state.picture && !state.picture.gallery
      ? " The picture is yours and stays here: whoever opens the link chooses one." : "";
    if (await copy(address, "The link")) say(`The link is copied.${without}`);
    part("share").textContent = "Link copied";
    setTimeout(() => { part("share").textContent = "Share link"; }, 1800);
  });
  addEventListener("hashchange", () => {
    try {
      const shared = fromAddress();
      if (shared) location.reload();
    } catch (error) {
      complain(error);
    }
  });
}
