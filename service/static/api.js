// The service, seen from the page. Addresses are relative, so the page also works below a path of a proxy.

import { PcmReader } from "./sound.js";

let key = "";

export function setKey(value) {
  key = value.trim();
}

/** What went wrong, as a sentence with what to do. */
export class Problem extends Error {
  constructor(message, { status = 0, code = "", requestId = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId });
  }
}

const ADVICE = {
  unauthorized: () => "This service asks for an API key. Enter yours above and try again.",
  overloaded: (wait) => `The service is full at the moment. Try again in ${wait}.`,
  upload_memory_full: (wait) => `Too many people are uploading at once. Try again in ${wait}.`,
  not_ready: (wait) => `The model is still loading. Try again in ${wait}.`,
  draining: () => "The service is shutting down. Try again in a minute.",
  stopped: () => "The service is shutting down. Try again in a minute.",
  engine_failed: () => "The model has stopped working and is being restarted. Try again in a minute.",
  out_of_memory: () => "The service ran out of memory. Ask for fewer seconds, or try again later.",
  deadline_exceeded: () => "This took too long and was given up. Ask for fewer seconds, or try again later.",
  body_too_slow: () => "The upload was too slow. Choose a shorter part of the clip and try again.",
  too_short: () => "The selected part is too short. Drag its edges to make it longer.",
  silent: () => "The selected part is silent. Choose a part with sound.",
  internal_error: () => "The service made a mistake. It has been logged; try again, or try another clip.",
};

function sentence({ status, code, detail, retryAfter }) {
  const wait = retryAfter > 1 ? `${retryAfter} seconds` : "a second";
  const advice = ADVICE[code]?.(wait);
  if (advice) return advice;
  const said = detail ? `${detail[0].toUpperCase()}${detail.slice(1)}.` : `The service answered ${status}.`;
  return status >= 500 ? `${said} Try again in ${wait}.` : `${said} Change that and try again.`;
}

async function send(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service cannot be reached. Check that it runs and that you are online, then try again.");
  }
  if (response.ok) return response;
  const document = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  throw new Problem(sentence({ status: response.status, retryAfter, ...document }), {
    status: response.status,
    code: document.code,
    requestId: document.request_id,
  });
}

export const model = async () => (await send("v1/model")).json();
export const description = async () => (await send("openapi.json")).json();
export const progress = async (id) => (await send(`v1/progress/${id}`)).json();
export const clip = async (name) => (await send(`static/clips/${name}`)).blob();

/** An id that nobody can guess: who knows it can ask how far the request is. */
export function requestId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The continuation of a WAV file, as samples while they are made. `onStart({notes})`, `onSamples(samples)`. */
export async function stream(file, parameters, { id, signal, onStart, onSamples }) {
  const query = new URLSearchParams({ ...parameters, stream: true, include_prompt: false, response_format: "pcm" });
  const response = await send(`continue?${query}`, {
    method: "POST",
    body: file,
    headers: { "Content-Type": "audio/wav", "X-Request-ID": id },
    signal,
  });
  onStart({ notes: response.headers.get("AudioLM-Notes") ?? "" });
  const pcm = new PcmReader();
  const reader = response.body.getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) onSamples(pcm.read(piece.value));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The connection broke off before the sound was complete. Try again.");
  }
}

/** The same continuation as a file of this format, prompt included: the seed makes it the same sound. */
export async function file(file, parameters, format) {
  const query = new URLSearchParams({ ...parameters, response_format: format });
  const options = { method: "POST", body: file, headers: { "Content-Type": "audio/wav" } };
  return (await send(`continue?${query}`, options)).blob();
}

/** What the service finds in a sound file. The file is sent as it is. */
export async function detect(file, { id, signal }) {
  const type = file.type.startsWith("audio/") ? file.type : "application/octet-stream";
  const headers = { "Content-Type": type, "X-Request-ID": id };
  return (await send("detect", { method: "POST", body: file, headers, signal })).json();
}
