// Starts the page, and draws what changed in one frame.

import * as answers from "./answers.js";
import * as audit from "./audit.js";
import { model, setToken } from "./api.js";
import * as bars from "./bars.js";
import * as card from "./card.js";
import * as compare from "./compare.js";
import { complain, part } from "./dom.js";
import * as edits from "./edits.js";
import * as exports_ from "./exports.js";
import * as gallery from "./gallery.js";
import { drawLegend, drawMap } from "./map.js";
import * as others from "./others.js";
import * as patches from "./patches.js";
import * as picture from "./picture.js";
import * as search from "./search.js";
import * as share from "./share.js";
import { emit, on, preview, state } from "./state.js";
import { inOneFrame, mark } from "./timing.js";
import * as words from "./words.js";

const QUESTIONS = ["What is this?", "Is this a cat?", "Is this an animal?"];
const THEMES = { "": "Auto", light: "Light", dark: "Dark" };

const draw = inOneFrame(() => {
  const after = preview();
  bars.drawBars(after);
  drawMap(after);
  edits.drawStrength();
});

function listenToTools() {
  part("scale").addEventListener("click", () => {
    state.scale = state.scale === "z" ? "raw" : "z";
    part("scale").setAttribute("aria-pressed", String(state.scale === "raw"));
    drawLegend();
    draw();
  });
  part("lines").addEventListener("click", () => {
    state.grid_lines = !state.grid_lines;
    part("lines").setAttribute("aria-pressed", String(state.grid_lines));
    draw();
  });
  part("error-close").addEventListener("click", () => { part("error").hidden = true; });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=range]), select, textarea");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      part("word").focus();
    }
  });
  new ResizeObserver(draw).observe(part("stage"));
}

function listenToTheme() {
  const root = document.documentElement;
  const show = () => {
    const name = THEMES[root.dataset.theme ?? ""];
    part("theme").textContent = name;
    part("theme").setAttribute("aria-label", `Colours: ${name}`);
  };
  part("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    const next = names[(names.indexOf(root.dataset.theme ?? "") + 1) % names.length];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    try {
      localStorage.setItem("sparseclip-theme", next);
    } catch {
      // No storage: the choice lasts as long as the page.
    }
    show();
  });
  show();
}

function describeModel() {
  const { model: id, concepts, patch_rows: rows, patch_columns: columns } = state.model;
  const grid = rows ? `, ${rows} × ${columns} patches` : "";
  part("model").textContent = `${id.name} ${id.version}: ${Number(concepts).toLocaleString("en")} concepts${grid}`;
  if (!Number(concepts)) {
    throw new Error(`${id.name} is a dense model and has no concepts, which this page is about.`);
  }
  if (!rows) throw new Error(`${id.name} has no patches, so that it shows no maps.`);
}

async function begin() {
  let shared = null;
  let bad = null;
  try {
    shared = share.fromAddress();
  } catch (error) {
    bad = error;
  }
  const { data } = await model.info();
  state.model = data[0].sparseclip;
  describeModel();
  await gallery.load();
  if (shared) await share.receive(shared);
  const names = state.settings.pictures.map(({ name }) => name);
  const wanted = shared ? shared.picture : names[0];
  if (wanted && names.includes(wanted)) await picture.openGallery(wanted);
  else if (shared) {
    complain(shared.picture
      ? "The link names a picture that this server does not have: choose another one."
      : "The link holds a plan and a question, but no picture: choose one.");
  }
  answers.ask();
  if (bad) complain(bad);  // after the first picture, which puts older messages away
  mark("ready");
  document.body.dataset.ready = "";
  emit("ready");
}

function askForToken() {
  part("token-open").hidden = false;
  part("token-dialog").showModal();
}

function start() {
  begin().catch((error) => {
    if (error.status === 401) askForToken();
    else if (error.status === 503) {
      part("model").textContent = "The server loads its model …";
      setTimeout(start, 1000);
    } else complain(error);
  });
}

on("plan", draw);
on("focus", draw);
on("picture", () => {
  document.body.classList.add("has-picture");
  gallery.markOpen();
  draw();
});
on("words", draw);

for (const each of [picture, patches, bars, card, edits, words, answers, audit, others, search,
  compare, exports_, share]) each.listen();
part("questions").replaceChildren(...QUESTIONS.map((question) => new Option(question, question)));
listenToTools();
listenToTheme();
drawLegend();
part("token-open").addEventListener("click", askForToken);
part("token-form").addEventListener("submit", () => {
  setToken(part("token").value);
  part("token").value = "";
  start();
});
start();
