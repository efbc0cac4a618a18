// The question and the plan as curl, Python and JSON.

import { complain, make, part, say, settled } from "./dom.js";
import { toSteering } from "./plan.js";
import { emit, on, resolved, state } from "./state.js";

/** A text as a word of a POSIX shell. */
function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A JSON value as Python writes it: JSON's strings are Python's, too. */
function python(value) {
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function fileName() {
  return state.picture?.gallery ?? state.picture?.name ?? "picture.png";
}

function asJson(question, steering) {
  return `${JSON.stringify({ question, steering: steering ?? { edits: [], strength: 1 } }, null, 1)}\n`;
}

function asCurl(question, steering) {
  const body = {
    model: state.model?.model?.name ?? "",
    messages: [{
      role: "user",
      content: [
        { type: "image_url", image_url: { url: "data:application/octet-stream;base64,@IMAGE@" } },
        { type: "text", text: question },
      ],
    }],
    ...(steering ? { steering } : {}),
  };
  // The picture comes by a file: it may be longer than a command line can be.
  const [before, after] = JSON.stringify(body).split("@IMAGE@");
  return [
    "#!/bin/sh",
    `picture=${quoted(fileName())}`,
    `{ printf '%s' ${quoted(before)}`,
    '  base64 < "$picture" | tr -d \'\\n\'',
    `  printf '%s' ${quoted(after)}; } |`,
    `curl --silent --show-error ${quoted(`${location.origin}/v1/chat/completions`)} \\`,
    "  --header 'Content-Type: application/json' --data-binary @-",
    "",
  ].join("\n");
}

function asPython(question, steering) {
  const edits = (steering?.edits ?? []).map((edit) => {
    const fields = edit.phrase === undefined
      ? [`concept=${edit.concept_id}`]
      : [`phrase=${python(edit.phrase)}`, `top=${edit.top}`];
    fields.push(`op="${edit.op.toUpperCase()}"`);
    if (edit.value !== undefined) fields.push(`value=${edit.value}`);
    if (edit.patches) fields.push(`patches=[${edit.patches.join(", ")}]`);
    return `        Edit(${fields.join(", ")}),`;
  });
  return [
    "from sparseclip import Client, Edit, Steering",
    "",
    "steering = Steering(",
    ...(edits.length ? ["    edits=[", ...edits, "    ],"] : ["    edits=[],"]),
    `    strength=${steering?.strength ?? 1},`,
    ")",
    `with Client(${python(state.settings.server || "localhost:50051")}) as client:`,
    `    answer = client.chat(${python(question)}, [${python(fileName())}], steering=steering)`,
    "    for event in answer:",
    '        print(event.text, end="", flush=True)',
    "",
  ].join("\n");
}

const FORMATS = {
  curl: { write: asCurl, file: "ask.sh", type: "text/x-shellscript" },
  Python: { write: asPython, file: "ask.py", type: "text/x-python" },
  JSON: { write: asJson, file: "plan.json", type: "application/json" },
};
let format = "curl";

function text() {
  return FORMATS[format].write(part("question").value, toSteering(resolved(), state.strength));
}

function draw() {
  for (const tab of part("formats").children) {
    const chosen = tab.dataset.format === format;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  part("code").textContent = text();
}

function choose(name) {
  format = name;
  draw();
}

function onKey(event) {
  const names = Object.keys(FORMATS);
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  choose(names[(names.indexOf(format) + step + names.length) % names.length]);
  part("formats").querySelector('[aria-selected="true"]').focus();
}

/** Copies a text, and says so; `what` names it. */
export async function copy(value, what) {
  try {
    await navigator.clipboard.writeText(value);
    say(`${what} is copied.`);
    return true;
  } catch {
    complain(`The browser does not let this page copy: mark the text and copy it yourself.`);
    return false;
  }
}

export function listen() {
  part("formats").replaceChildren(...Object.keys(FORMATS).map((name) => make("button", {
    type: "button", role: "tab", text: name, "data-format": name, "aria-controls": "code",
    on: { click: () => choose(name), keydown: onKey },
  })));
  part("download").addEventListener("click", () => {
    const { file, type } = FORMATS[format];
    const url = URL.createObjectURL(new Blob([text()], { type }));
    make("a", { href: url, download: file }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  part("copy").addEventListener("click", () => copy(text(), format));
  const soon = settled(draw, 120);
  for (const topic of ["plan", "picture", "settings"]) on(topic, soon);
  part("question").addEventListener("input", () => { soon(); emit("question"); });
  draw();
}
