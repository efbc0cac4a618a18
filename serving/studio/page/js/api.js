// Calls of the server. Whatever goes wrong becomes one sentence in an Error.

let token = "";

export function setToken(value) {
  token = value;
}

export class ServerError extends Error {
  constructor(message, status, wait = NaN) {
    super(message);
    this.name = "ServerError";
    this.status = status;
    /** Seconds after which the server thinks that another try may help. */
    this.wait = wait;
  }
}

function headers(body) {
  const sent = body === undefined ? {} : { "Content-Type": "application/json" };
  if (token) sent.Authorization = `Bearer ${token}`;
  return sent;
}

/** How often a call is made again that the server has no room for, and the longest wait for it. */
const TRIES = 4;
const MOST_WAIT_S = 10;

async function call(path, body, signal) {
  for (let left = TRIES - 1; ; left -= 1) {
    try {
      return await callOnce(path, body, signal);
    } catch (error) {
      if (error.status !== 429 || !left || !(error.wait <= MOST_WAIT_S)) throw error;
      await pause(1000 * error.wait * (0.75 + 0.5 * Math.random()), signal);
    }
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    }, { once: true });
  });
}

async function callOnce(path, body, signal) {
  let reply;
  try {
    reply = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: headers(body),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is it still running?", 0);
  }
  if (!reply.ok) throw await failure(reply);
  return reply;
}

async function failure(reply) {
  let problem = {};
  try {
    problem = await reply.json();
  } catch {
    // Not JSON: the status alone must do.
  }
  const said = problem.detail || problem.error?.message || problem.title;
  if (reply.status === 401) return new ServerError("This server wants a token.", 401);
  const wait = Number(problem.retry_after ?? reply.headers.get("Retry-After"));
  const again = wait > 0 ? ` Try again in ${Math.ceil(wait)} s.` : "";
  const sentence = said ? `The server refused: ${said}` : `The server failed (${reply.status})`;
  return new ServerError(`${sentence.replace(/\.$/, "")}.${again}`, reply.status, wait);
}

export async function get(path, signal) {
  return (await call(path, undefined, signal)).json();
}

export async function post(path, body, signal) {
  return (await call(path, body, signal)).json();
}

export async function getBlob(path, signal) {
  return (await call(path, undefined, signal)).blob();
}

/** The events of a stream of server-sent events, as objects, until [DONE]. */
export async function* events(path, body, signal) {
  const reply = await call(path, body, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      waiting += value;
      const blocks = waiting.split(/\r?\n\r?\n/);
      waiting = blocks.pop();
      for (const block of blocks) {
        const data = block
          .split(/\r?\n/)
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart())
          .join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const event = JSON.parse(data);
        if (event.error) {
          throw new ServerError(`The answer broke off: ${event.error.message ?? "no reason given"}`, 0);
        }
        yield event;
      }
    }
  } finally {
    // Leaving early hangs up, and the server stops within one decoding step.
    reader.cancel().catch(() => {});
  }
}

export const studio = {
  gallery: () => get("api/gallery"),
  picture: (name) => getBlob(`api/gallery/pictures/${encodeURIComponent(name)}`),
  search: (terms, limit, signal) => post("api/gallery/search", { terms, limit }, signal),
  evidence: (id, signal) => get(`api/concepts/${id}/pictures?limit=6`, signal),
};

export const model = {
  info: () => get("/v1/models"),
  explain: (body, signal) => post("/v1/explain", body, signal),
  concept: (id, signal) => get(`/v1/concepts/${id}`, signal),
  search: (query, limit, signal) => post("/v1/concepts/search", { query, limit }, signal),
  embed: (body, signal) => post("/v1/embed", body, signal),
  chat: (body, signal) => post("/v1/chat/completions", body, signal),
  chatEvents: (body, signal) => events("/v1/chat/completions", { ...body, stream: true }, signal),
};
