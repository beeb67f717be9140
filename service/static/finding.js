// One clip that is checked: sent, waited for, explained, kept.

import * as api from "./api.js";
import { drawChart, windowAt } from "./chart.js";
import { showCode } from "./code.js";
import { Player } from "./player.js";
import { RATE, clock, decode, save, wav } from "./sound.js";
import { Track, color } from "./track.js";
import { Transport } from "./transport.js";
import Regions from "./vendor/regions.js";
import { LAYERS, caveats, errorRates, layers, likelihood, spans, verdict } from "./words.js";

const POLL_SECONDS = 0.4;
const LARGEST_DRAWN = 64 * 2 ** 20; // bytes that a browser can be asked to decode
const UNREADABLE = ["unsupported_audio", "unsupported_media_type"];

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/** Fires "end" with `detail` a sentence for people who listen, "again" when the clip is to be sent once more. */
export class Finding extends EventTarget {
  running = true;
  #clip; // {blob, name, file, url}
  #answer = null;
  #player = null;
  #track = null;
  #transport = null;
  #moveChart = null;
  #abort = new AbortController();
  #parts = {};

  constructor(clip) {
    super();
    this.#clip = clip;
    this.element = document.getElementById("finding").content.firstElementChild.cloneNode(true);
    for (const part of this.element.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    this.#parts.title.textContent = "Checking";
    this.#parts.clip.textContent = clip.name;
    this.#parts.cancel.addEventListener("click", () => this.cancel());
    this.#parts.again.addEventListener("click", () => this.dispatchEvent(new Event("again")));
    this.#parts.code.addEventListener("click", () => showCode("detect", clip, {}));
    this.#parts.json.addEventListener("click", () => this.#keep());
  }

  /** Send it and show the answer. To be called once the element is in the page. */
  async run() {
    const id = api.requestId();
    this.#watch(id);
    const samples = await this.#decoded();
    if (samples && !this.#abort.signal.aborted) this.#draw(samples);
    try {
      this.#show(await this.#ask(id, samples));
      this.#end(`${verdict(this.#answer)}. ${this.#answer.summary}`);
    } catch (error) {
      if (error.name === "AbortError") this.#fail("Cancelled.", { asked: true });
      else this.#fail(error.message);
    }
  }

  cancel() {
    this.#abort.abort();
  }

  remove() {
    this.cancel();
    this.#player?.pause();
    this.#track?.destroy();
    this.element.remove();
  }

  /** The file itself is sent. Only where the service cannot read it, its sound is sent as a WAV file. */
  async #ask(id, samples) {
    const { signal } = this.#abort;
    try {
      return await api.detect(this.#clip.blob, { id, signal });
    } catch (error) {
      if (!samples || !UNREADABLE.includes(error.code)) throw error;
    }
    const answer = await api.detect(wav(samples), { id: api.requestId(), signal });
    this.#parts.note.textContent =
      "The service does not read this kind of file, so its sound was sent as a WAV file. A signature that the file may carry was not looked at.";
    return answer;
  }

  async #decoded() {
    if (this.#clip.blob.size > LARGEST_DRAWN) return null;
    return decode(this.#clip.blob).catch(() => null); // the service may still read it
  }

  #draw(samples) {
    const parts = this.#parts;
    this.element.classList.add("drawn");
    this.#player = new Player(samples);
    this.#track = new Track(parts.wave, samples, { player: this.#player, plugins: () => [this.#regions()] });
    this.#transport = new Transport(this.#player, parts, {
      said: (time) => this.#said(time),
      onMove: (time) => this.#move(time),
    });
    parts.play.disabled = parts.seek.disabled = false;
  }

  #regions() {
    const regions = Regions.create();
    const segments = this.#answer?.segments ?? [];
    queueMicrotask(() => {
      for (const { start, end } of segments) {
        regions.addRegion({ start, end, drag: false, resize: false, color: color("found") });
      }
    });
    return regions;
  }

  /** What the classifier says around a moment. */
  #said(time) {
    const window = windowAt(this.#answer?.timeline ?? [], time);
    return window ? `probability ${likelihood(window.probability)}` : "";
  }

  #move(time) {
    this.#moveChart?.(time);
    this.#parts.here.textContent = this.#said(time);
  }

  /** Where the service says it stands. */
  async #watch(id) {
    this.#say("Waiting for the answer");
    while (this.running) {
      await pause(POLL_SECONDS);
      const { state, place, stages } = await api.progress(id).catch(() => ({ state: "unknown" }));
      if (!this.running) return;
      if (state === "queued") this.#say(place === 1 ? "Waiting: next in the queue" : `Waiting: place ${place} in the queue`);
      if (state !== "running") continue;
      this.#say("Listening");
      if (stages.detect) this.#parts.progress.value = stages.detect;
    }
  }

  #say(text) {
    this.#parts.state.textContent = text;
  }

  #end(text) {
    this.running = false;
    this.element.classList.remove("running");
    this.dispatchEvent(new CustomEvent("end", { detail: text }));
  }

  #fail(text, { asked = false } = {}) {
    this.element.classList.add("failed");
    this.#parts.title.textContent = asked ? "Not checked" : "This could not be checked";
    if (!asked) this.#parts.state.setAttribute("role", "alert");
    this.#say(text);
    this.#end(asked ? text : "");
  }

  #show(answer) {
    const parts = this.#parts;
    this.#answer = answer;
    this.element.classList.add("answered");
    this.element.dataset.verdict = answer.verdict;
    parts.title.textContent = verdict(answer);
    parts.clip.textContent = `${this.#clip.name}, ${clock(answer.seconds)}`;
    parts.summary.textContent = answer.summary;
    this.#say("");
    this.#moveChart = drawChart(parts.chart, answer);
    this.#track?.mark(answer.segments);
    this.#transport?.show();
    this.#showSegments();
    this.#showWindows();
    parts.layers.append(...layers(answer).map(layerItem));
    parts.rates.append(...errorRates(answer).map((text) => node("p", text)));
    parts.caveats.append(...caveats(answer).map((text) => node("li", text)));
    const { service, bundle, detector, watermark } = answer.versions;
    const versions = { service, model: bundle, classifier: detector, watermark };
    const named = Object.entries(versions).filter(([, version]) => version);
    parts.versions.textContent = `Checked with ${named.map(([name, version]) => `${name} ${version}`).join(", ")}.`;
  }

  #showSegments() {
    const { segments } = this.#answer;
    this.#parts.segments.hidden = !segments.length;
    this.#parts["segment-list"].append(
      ...segments.map((segment) => {
        const item = node("li", "");
        const named = segment.evidence.map((layer) => LAYERS[layer] ?? layer).join(", ");
        item.append(node("strong", spans([segment])), ` ${named}`);
        return item;
      }),
    );
  }

  #showWindows() {
    const { timeline } = this.#answer;
    this.#parts.windows.hidden = this.#parts.line.hidden = !timeline.length;
    this.#parts["window-rows"].append(
      ...timeline.map(({ start, end, probability }) => {
        const row = document.createElement("tr");
        row.append(...[clock(start), clock(end), likelihood(probability)].map((text) => node("td", text)));
        return row;
      }),
    );
  }

  #keep() {
    const file = new Blob([JSON.stringify(this.#answer, null, 2)], { type: "application/json" });
    save(file, `${this.#clip.file.replace(/\.[^.]*$/, "")}-check.json`);
  }
}

function node(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}

function layerItem({ name, about, state, said, facts }) {
  const item = document.createElement("li");
  item.dataset.state = state;
  const heading = node("h4", name);
  heading.append(node("span", state));
  item.append(heading, Object.assign(node("p", about), { className: "hint" }), node("p", said));
  if (facts.length) {
    const list = document.createElement("dl");
    for (const [key, value] of facts) list.append(node("dt", key), node("dd", value));
    item.append(list);
  }
  return item;
}
