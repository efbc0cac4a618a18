// The picture: dropped, pasted, chosen, or one of the gallery; sent to be explained.

import { model, studio } from "./api.js";
import { complain, forgive, part, percent, say } from "./dom.js";
import { EXPLAINED, emit, learn, on, state } from "./state.js";
import { mark } from "./timing.js";

let running = new AbortController();

/** The bytes of a blob as base64. */
export async function base64(blob) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(blob);
  });
  return url.slice(url.indexOf(",") + 1);
}

/** Throws one sentence for a file that the server would refuse. */
export function checkFile(blob) {
  const most = Number(state.model?.limits?.image_bytes ?? 0);
  if (!blob.size) throw new Error("The file is empty.");
  if (most && blob.size > most) {
    const size = (blob.size / 2 ** 20).toFixed(1);
    throw new Error(`The picture has ${size} MiB; this server takes ${(most / 2 ** 20).toFixed(0)}.`);
  }
}

/** The maps of some concepts on the picture, where they are not known yet. */
export async function fetchMaps(ids, signal) {
  const picture = state.picture;
  const missing = ids.filter((id) => !state.maps.has(id));
  for (let at = 0; at < missing.length && picture; at += EXPLAINED) {
    const concepts = missing.slice(at, at + EXPLAINED).map((concept_id) => ({ concept_id }));
    const reply = await model.explain({ image: picture.data, concepts }, signal);
    if (state.picture !== picture) return;
    learn(reply.explanations);
  }
}

/** Shows a picture: a blob with a name, of the gallery if `gallery` names one. */
export async function open(blob, name, gallery = null) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  part("concepts-section").setAttribute("aria-busy", "true");
  try {
    forgive();
    checkFile(blob);
    const data = await base64(blob);
    const reply = await model.explain({ image: data, top_concepts: EXPLAINED, captions: 3 }, signal);
    const bitmap = await createImageBitmap(blob).catch(() => null);
    if (signal.aborted) return;
    state.picture = { name, blob, data, bitmap, gallery };
    state.grid = { rows: reply.rows, columns: reply.columns };
    state.exact = reply.explanations.every((explanation) => explanation.exact);
    state.coverage = reply.coverage ?? null;
    state.captions = reply.captions ?? [];
    state.maps.clear();
    learn(reply.explanations);
    state.ranked = reply.explanations.map(({ concept }) => concept.concept_id);
    state.region = new Set([...state.region].filter((at) => at < reply.rows * reply.columns));
    state.hovered = null;
    state.selected = state.ranked[0] ?? null;
    await mapsOfEdits(signal);
    emit("picture");
    const strongest = state.ranked.slice(0, 3).map((id) => state.concepts.get(id).name);
    say(`${name}: the strongest concepts are ${strongest.join(", ")}.`);
    mark("picture");
  } catch (error) {
    complain(error);
  } finally {
    if (!signal.aborted) part("concepts-section").setAttribute("aria-busy", "false");
  }
}

/** Maps of the concepts that the plan edits, which the strongest ones need not hold. */
async function mapsOfEdits(signal) {
  const ids = state.edits.flatMap((edit) =>
    edit.phrase === undefined
      ? [edit.concept_id]
      : (state.words.get(edit.phrase)?.concepts ?? []).slice(0, edit.top).map(({ id }) => id),
  );
  await fetchMaps([...new Set(ids)], signal);
}

export async function openGallery(name) {
  try {
    await open(await studio.picture(name), name, name);
  } catch (error) {
    complain(error);
  }
}

/** What the model read of the picture, in a sentence. */
function coverageText() {
  const { coverage, picture } = state;
  if (!coverage || !picture) return "";
  const share = coverage.image_share ?? 1;
  const parts = [];
  if (share && share < 0.995) parts.push(`the model read ${percent(share)} of it, the middle`);
  if (coverage.frames > 1) parts.push(`the first of ${coverage.frames} frames`);
  const read = parts.length ? `: ${parts.join("; ")}` : "";
  const near = state.captions.map(({ text }) => text).join(", ");
  return `${picture.name}${read}.${near ? ` Nearest captions: ${near}.` : ""}`;
}

function takeFile(file) {
  if (file) open(file, file.name || "pasted picture");
}

on("picture", () => { part("coverage").textContent = coverageText(); });

/** Listens for pictures from everywhere a picture may come from. */
export function listen() {
  const input = part("file");
  part("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    takeFile(input.files[0]);
    input.value = "";
  });
  let inside = 0;
  const setOver = (over) => part("stage").classList.toggle("over", over);
  addEventListener("dragenter", (event) => { event.preventDefault(); inside += 1; setOver(true); });
  addEventListener("dragleave", () => { inside -= 1; if (inside <= 0) setOver(false); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    setOver(false);
    const [file] = event.dataTransfer.files;
    if (file) takeFile(file);
    else complain("Only files can be dropped here: this page fetches no address.");
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) { event.preventDefault(); takeFile(file); }
  });
}
