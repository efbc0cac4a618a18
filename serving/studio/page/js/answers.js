// Answers side by side: plain, steered, and on request without the picture. Each is a stream.

import { model } from "./api.js";
import { complain, forgive, make, part, say, settled } from "./dom.js";
import { toSteering } from "./plan.js";
import { emit, on, resolved, state } from "./state.js";
import { mark } from "./timing.js";

const KINDS = {
  plain: { title: "Plain", of: "the picture as it is" },
  steered: { title: "Steered", of: "the picture under the plan" },
  blind: { title: "No picture", of: "the question alone" },
};
const MOST_TOKENS = 160;

const panes = new Map();
const running = new Map();
/** The questions that are answered, so that a moved slider asks the same again. */
let asked = "";

/** The body of a request; `steering` null leaves the picture as it is, `data` null sends none. */
export function request(question, data, steering) {
  const content = data === null
    ? question
    : [
        { type: "image_url", image_url: { url: `data:application/octet-stream;base64,${data}` } },
        { type: "text", text: question },
      ];
  const body = { model: state.model?.model?.name ?? "", messages: [{ role: "user", content }] };
  body.max_tokens = MOST_TOKENS;
  if (steering) body.steering = steering;
  return body;
}

function pane(kind) {
  if (panes.has(kind)) return panes.get(kind);
  const { title, of } = KINDS[kind];
  const text = make("p", { class: "answer-text", "aria-live": "polite" });
  const facts = make("p", { class: "answer-facts mono faint", text: "\u00a0" });
  const element = make("article", { class: `answer ${kind}`, "aria-labelledby": `answer-${kind}` },
    make("h3", { id: `answer-${kind}` }, make("span", { text: title }),
      make("small", { class: "faint", text: of })), text, facts);
  panes.set(kind, { element, text, facts });
  return panes.get(kind);
}

/** Which answers are asked for, in the order of the page. */
function kinds() {
  return part("blind").checked ? ["plain", "steered", "blind"] : ["plain", "steered"];
}

export function draw() {
  part("panes").replaceChildren(...kinds().map((kind) => pane(kind).element));
  part("stop").disabled = !running.size;
}

function facts({ first, tokens, rate, took, end, stopped }) {
  const parts = [];
  if (first) parts.push(`first token ${Math.round(first)} ms`);
  if (tokens) parts.push(`${tokens} ${tokens === 1 ? "token" : "tokens"}`);
  if (rate) parts.push(`${Math.round(rate)} tokens/s`);
  else if (took) parts.push(`${Math.round(took)} ms in all`);
  if (stopped) parts.push("stopped");
  else if (end && end.finish === "CHAT_FINISH_LENGTH") parts.push("cut at the limit");
  // A part stays on one line.
  return parts.map((text) => text.replaceAll(" ", "\u00a0")).join(" · ") || "\u00a0";
}

async function answer(kind, question, steering) {
  running.get(kind)?.abort();
  const control = new AbortController();
  running.set(kind, control);
  const shown = pane(kind);
  shown.text.textContent = "";
  shown.facts.textContent = "waiting …";
  shown.element.classList.add("busy");
  draw();
  const sent = performance.now();
  const seen = { first: 0, tokens: 0, rate: 0, took: 0, end: null, stopped: false };
  let start = null;
  try {
    const data = kind === "blind" ? null : state.picture.data;
    for await (const event of model.chatEvents(request(question, data, steering), control.signal)) {
      const piece = event.choices?.[0]?.delta?.content ?? "";
      if (piece && !seen.first) seen.first = performance.now() - sent;
      if (piece) {
        shown.text.append(piece);
        seen.tokens += 1;
        shown.facts.textContent = facts(seen);
      }
      if (event.sparseclip?.images) start = event.sparseclip;
      else if (event.sparseclip) seen.end = event.sparseclip;
      if (start && kind === "steered" && event.sparseclip === start) {
        emit("audit", { start, edits: steering?.edits ?? [] });
      }
    }
    // The server's count: a piece of text may hold several tokens.
    seen.tokens = Number(seen.end?.usage?.completion_tokens ?? seen.tokens);
    seen.took = performance.now() - sent;
    const seconds = (seen.took - seen.first) / 1000;
    // Between the first token and the last: one token alone has no rate.
    if (seen.tokens > 1 && seconds > 0) seen.rate = (seen.tokens - 1) / seconds;
    if (!shown.text.textContent) shown.text.textContent = "(an empty answer)";
    mark(`answer ${kind}`);
  } catch (error) {
    seen.stopped = true;
    if (error.name !== "AbortError") {
      shown.text.textContent = "";
      complain(error);
    }
  } finally {
    if (running.get(kind) === control) {
      running.delete(kind);
      shown.element.classList.remove("busy");
      shown.facts.textContent = facts(seen);
      shown.element.dataset.first = seen.first.toFixed(1);
      draw();
    }
  }
}

/** Asks for some of the answers. */
export async function ask(which = kinds()) {
  if (!state.settings.chat.available || !state.picture) return;
  forgive();
  asked = part("question").value.trim();
  if (!asked) {
    complain("Type a question first.");
    return;
  }
  const steering = toSteering(resolved(), state.strength);
  await Promise.all(which.map((kind) => answer(kind, asked, kind === "steered" ? steering : null)));
  const steered = pane("steered").text.textContent;
  if (which.includes("steered") && steered) say(`Steered answer: ${steered}`);
}

function stop() {
  for (const control of running.values()) control.abort();
}

function compareAnswers() {
  const [plain, steered] = ["plain", "steered"].map((kind) => pane(kind).text.textContent);
  pane("steered").element.classList.toggle("differs", Boolean(plain && steered && plain !== steered));
}

function note() {
  const { available, reason } = state.settings.chat;
  part("chat-note").textContent = available ? "" : reason || "this server answers no questions";
  for (const id of ["ask", "question", "others-run"]) part(id).disabled = !available;
}

const askAgain = settled(() => {
  if (asked && part("follow").checked) ask(["steered"]).then(compareAnswers);
}, 260);

export function listen() {
  part("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask().then(compareAnswers);
  });
  part("stop").addEventListener("click", stop);
  part("blind").addEventListener("change", () => {
    draw();
    if (part("blind").checked && asked) ask(["blind"]);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask().then(compareAnswers);
  });
  on("plan", askAgain);
  on("picture", () => {
    stop();
    for (const { text, facts: line } of panes.values()) {
      text.textContent = "";
      line.textContent = "\u00a0";
    }
    part("audit").hidden = true;
    if (asked && part("follow").checked) ask().then(compareAnswers);
  });
  on("settings", note);
  draw();
}
