// The pictures that the server has: examples, evidence and a collection to search.

import { studio } from "./api.js";
import { complain, make, part } from "./dom.js";
import { openGallery } from "./picture.js";
import { emit, state } from "./state.js";

/** How many of them the strip under the picture offers. */
const OFFERED = 120;
const POLL_MS = 700;

/** File names to the addresses of their blobs. They come by fetch, so that a token goes along. */
const addresses = new Map();

function address(name) {
  if (!addresses.has(name)) {
    const loading = studio.picture(name).then((blob) => URL.createObjectURL(blob));
    loading.catch(() => addresses.delete(name));
    addresses.set(name, loading);
  }
  return addresses.get(name);
}

/** A file's name as a title: no ending, and spaces for dashes. */
export function titleOf(name) {
  return name.replace(/\.[a-z]+$/i, "").replace(/[-_]+/g, " ");
}

/** An <img> of a gallery picture, which loads when it comes near the screen. */
export function image(name) {
  const element = make("img", { alt: "", width: 56, height: 56, decoding: "async" });
  const load = () => address(name).then((url) => { element.src = url; }).catch(() => {});
  const watch = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    load();
  }, { rootMargin: "300px" });
  watch.observe(element);
  return element;
}

/** A list item with a button that opens a gallery picture. */
export function thumbnail(name, { caption = "" } = {}) {
  return make("li", {}, make("button", {
    type: "button", class: "thumb", title: titleOf(name), "data-picture": name,
    "aria-label": caption ? `Open ${titleOf(name)}, value ${caption}` : `Open ${titleOf(name)}`,
    on: { click: () => openGallery(name) },
  }, image(name), caption ? make("span", { class: "mono", text: caption }) : null));
}

function note() {
  const { name, embedded, pictures, ready } = state.settings;
  part("gallery-note").textContent = ready
    ? `${pictures.length} pictures of ${name}`
    : `${name}: ${embedded} of ${pictures.length} pictures are read`;
}

/** Marks the picture that is open. */
export function markOpen() {
  for (const button of part("examples").querySelectorAll("button")) {
    const open = button.dataset.picture === state.picture?.gallery;
    button.setAttribute("aria-pressed", String(open));
  }
}

/** Reads the settings and the gallery, and again until all its pictures are embedded. */
export async function load() {
  const settings = await studio.gallery();
  const first = !state.settings.pictures;
  state.settings = settings;
  if (first) {
    part("examples").replaceChildren(
      ...settings.pictures.slice(0, OFFERED).map(({ name }) => thumbnail(name)));
  }
  note();
  emit("settings");
  if (!settings.ready && settings.pictures.length) setTimeout(() => load().catch(complain), POLL_MS);
}
