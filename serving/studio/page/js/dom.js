// Elements, made without any markup in strings: every name that the page shows came from outside.

/** A new element. `text` and children become text nodes, never markup; `on` has listeners. */
export function make(tag, { text, on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style" || name.startsWith("on")) throw new Error(`${name}: not in markup`);
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  if (text != null) element.textContent = text;
  for (const [type, listener] of Object.entries(on)) element.addEventListener(type, listener);
  element.append(...children.filter((child) => child != null));
  return element;
}

/** The element with this id, which index.html has. */
export function part(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element #${id}`);
  return element;
}

/** A share of 1 as the length of a bar; CSSOM, since the page allows no style attribute. */
export function setPart(element, share) {
  element.style.setProperty("--part", Math.max(0, Math.min(1, share)).toFixed(4));
}

/** Calls `task` once no call has come for `ms`; `cancel` forgets the last one. */
export function settled(task, ms) {
  let timer = 0;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => task(...values), ms);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** A number as people read it in columns: three decimals, and a sign where that shows nothing. */
export function short(number) {
  if (!Number.isFinite(number)) return "–";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size < 0.0005) return number < 0 ? "−<.001" : "<.001";
  return number.toFixed(size < 10 ? 3 : size < 100 ? 1 : 0);
}

export function percent(share) {
  return `${Math.round(100 * share)}%`;
}

/** Says one sentence to readers of the screen and to screen readers. */
export function say(sentence) {
  part("status").textContent = sentence;
}

/** Shows what went wrong as one sentence, until it is put away or something else is tried. */
export function complain(error) {
  if (error?.name === "AbortError") return;
  const sentence = error instanceof Error ? error.message : String(error);
  part("error-text").textContent = sentence;
  part("error").hidden = false;
}

export function forgive() {
  part("error").hidden = true;
  part("error-text").textContent = "";
}
