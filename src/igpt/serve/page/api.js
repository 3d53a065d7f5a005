// The server's API. What it refuses is a Problem whose message is its own line.

export class Problem extends Error {
  constructor(message, status = null) {
    super(message);
    this.status = status; // of the answer, if one came
  }
}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("the server does not answer; does igpt serve still run?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Problem(said.detail ?? `the server answered ${response.status}`, response.status);
}

const of = (model, what = "") => `api/models/${encodeURIComponent(model)}${what}`;
const sending = (body, signal) => ({
  method: "POST", body: JSON.stringify(body), signal, headers: { "Content-Type": "application/json" },
});
const json = async (path, options) => (await answer(path, options)).json();

export const served = () => json("api/models");
export const model = (name, signal) => json(of(name), { signal });
export const probes = (name) => json(of(name, "/probes"));
export const tokens = (name, file, signal) => json(of(name, "/tokens"), {
  method: "POST", body: file, signal, headers: { "Content-Type": "application/octet-stream" },
});
export const surprise = (name, body, signal) => json(of(name, "/surprise"), sending(body, signal));
export const distribution = (name, body, signal) => json(of(name, "/distribution"), sending(body, signal));

// Yields each event of a drawing as it comes.
export async function* completions(name, body, signal) {
  const response = await answer(of(name, "/completions"), sending(body, signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (text + value).split("\n");
      text = lines.pop();
      yield* lines.filter(Boolean).map((line) => JSON.parse(line));
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("the server stopped in the middle; does igpt serve still run?");
  }
}
