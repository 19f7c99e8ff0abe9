// Talks to the API of the server this page came from, and to nobody else.

/** An answer that is an error: `message`, and where the user's text is wrong, `position`. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.error ?? `status ${status}`);
    this.status = status;
    this.position = body.position;
  }
}

async function answer(response) {
  const text = await response.text();
  let body;
  try {
    body = parse(text);
  } catch {
    throw new Refused(response.status, { error: `the server answered ${response.status} without JSON` });
  }
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

/** Numbers that a double does not hold stay the text they arrived as, where the browser tells it. */
export function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    if (typeof value !== "number" || !context?.source) return value;
    const exact = /^-?\d+(\.\d+)?$/.test(context.source);
    return exact && String(value) !== context.source && context.source.length > 15 ? context.source : value;
  });
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== ""));
  const response = await fetch(query.size ? `${path}?${query}` : path, { signal: AbortSignal.timeout(15000) });
  return answer(response);
}

/** Rows of an SQL statement. */
export async function sql(statement) {
  const request = { method: "POST", body: statement, headers: { "content-type": "text/plain" }, signal: AbortSignal.timeout(15000) };
  return (await answer(await fetch("/api/v1/sql", request))).rows;
}

/** Calls back with the names of changed tables (null: all may have changed) and with the state of the connection. */
export function listen(onChange, onState) {
  const source = new EventSource("/api/v1/changes");
  source.addEventListener("hello", () => { onState(true); onChange(null); });
  source.addEventListener("changes", (event) => onChange(Object.keys(JSON.parse(event.data).tables)));
  source.addEventListener("behind", () => onChange(null));
  source.onerror = () => {
    onState(false);
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => listen(onChange, onState), 2000);
    }
  };
}
