// One continuation: asked for, heard while it is made, looked at, kept.

import * as api from "./api.js";
import { showCode } from "./code.js";
import { Player } from "./player.js";
import { RATE, clock, save, wav } from "./sound.js";
import { Track } from "./track.js";
import { Transport } from "./transport.js";

const LEAD_SECONDS = 1.5; // of the prompt that are heard before the new sound begins
const POLL_SECONDS = 0.4;
const FORMATS = ["wav", "flac", "ogg", "mp3"];
const STAGES = { encode: "listen", semantic: "meaning", coarse: "sound", fine: "detail" };

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/**
 * Fires "continue" with `detail` {samples, name}: go on from there. "check" with `detail` {blob, name, file, url}: is
 * this file ours? "end" when no more sound will come.
 */
export class Take extends EventTarget {
  running = true;
  #prompt; // {samples, name, file, url}
  #parameters;
  #samples; // prompt, then the new ones as they arrive
  #made = 0; // new samples so far
  #player;
  #track;
  #transport;
  #abort = new AbortController();
  #parts = {};

  /** `place`: "2 of 3", or "" for a single one. `autoplay`: sound as soon as there is any. */
  constructor(prompt, parameters, { place, autoplay }) {
    super();
    this.#prompt = prompt;
    this.#parameters = parameters;
    const total = prompt.samples.length + Math.round(parameters.seconds * RATE);
    this.#samples = new Float32Array(total);
    this.#samples.set(prompt.samples);
    this.#player = new Player(this.#samples, prompt.samples.length);
    this.autoplay = autoplay;
    this.element = this.#build(place);
  }

  /** Ask for it. To be called once the element is in the page. */
  async run() {
    this.#track = new Track(this.#parts.wave, this.#samples, {
      seam: this.#prompt.samples.length,
      player: this.#player,
    });
    const id = api.requestId();
    this.#watch(id);
    try {
      await api.stream(wav(this.#prompt.samples), this.#parameters, {
        id,
        signal: this.#abort.signal,
        onStart: ({ notes }) => this.#note(notes),
        onSamples: (samples) => this.#arrive(samples),
      });
      this.#end("");
    } catch (error) {
      if (error.name === "AbortError") this.#end(this.#made ? `Cancelled after ${clock(this.#made / RATE)}.` : "Cancelled.");
      else this.#end(error.message, { failed: true });
    }
  }

  /** Stop; the service hears of it and frees the place. */
  cancel() {
    this.#abort.abort();
  }

  remove() {
    this.cancel();
    this.#player.pause();
    this.#track?.destroy();
    this.element.remove();
  }

  #arrive(samples) {
    const seam = this.#prompt.samples.length;
    const room = this.#samples.length - seam - this.#made;
    this.#samples.set(samples.subarray(0, room), seam + this.#made);
    const first = this.#made === 0 && samples.length > 0;
    this.#made += Math.min(samples.length, room);
    this.#player.arrive(Math.min(samples.length, room));
    this.#track.update();
    this.#parts.progress.value = this.#made / RATE;
    this.#say(`${(this.#made / RATE).toFixed(1)} of ${this.#parameters.seconds} s made`);
    if (first) {
      this.element.classList.add("sounding");
      this.#parts.play.disabled = this.#parts.seek.disabled = false;
      if (this.autoplay) {
        this.#player.currentTime = Math.max(0, seam / RATE - LEAD_SECONDS);
        this.#player.play();
      }
    }
  }

  #end(text, { failed = false } = {}) {
    this.running = false;
    this.element.classList.remove("running");
    this.element.classList.toggle("failed", failed);
    const { length } = this.#prompt.samples;
    if (length + this.#made < this.#samples.length) {
      this.#samples = this.#samples.subarray(0, length + this.#made);
      this.#player.cut();
      if (this.#made) this.#track.replace(this.#samples);
    }
    this.#track.update({ now: true });
    this.element.classList.toggle("empty", !this.#made);
    if (failed) this.#parts.state.setAttribute("role", "alert");
    this.#say(text);
    this.#transport.show();
    this.dispatchEvent(new CustomEvent("end", { detail: { failed, made: this.#made / RATE } }));
  }

  /** Where the service says it stands, until sound tells more. */
  async #watch(id) {
    this.#say("Sending the clip");
    while (this.running) {
      await pause(POLL_SECONDS);
      const { state, place, stages } = await api.progress(id).catch(() => ({ state: "unknown" }));
      if (!this.running) return;
      for (const [stage, meter] of Object.entries(this.#parts.stages)) {
        if (stages && stage in stages) meter.value = stages[stage];
        meter.parentElement.hidden = state !== "running" || !(stage in stages);
      }
      if (this.#made) continue;
      if (state === "queued") this.#say(place === 1 ? "Waiting: next in the queue" : `Waiting: place ${place} in the queue`);
      if (state === "running") this.#say(stages.encode < 1 ? "Listening to the clip" : "Composing");
    }
  }

  #say(text) {
    this.#parts.state.textContent = text;
  }

  #note(notes) {
    this.#parts.notes.textContent = notes ? `The service ${notes}.` : "";
  }

  #build(place) {
    const element = document.getElementById("take").content.firstElementChild.cloneNode(true);
    for (const part of element.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    const parts = this.#parts;
    const title = place ? `Version ${place}` : "Continuation";
    parts.title.textContent = title;
    parts.seed.textContent = `seed ${this.#parameters.seed}`;
    element.setAttribute("aria-label", `${title}, seed ${this.#parameters.seed}`);
    parts.progress.max = this.#parameters.seconds;
    parts.stages = Object.fromEntries(Object.entries(STAGES).map(([stage, label]) => [stage, this.#meter(label)]));
    this.#transport = new Transport(this.#player, parts, { onMove: () => this.#offer() });
    parts.cancel.addEventListener("click", () => this.cancel());
    parts.remove.addEventListener("click", () => this.dispatchEvent(new Event("remove")));
    parts.again.addEventListener("click", () => this.#continue());
    parts.check.addEventListener("click", () => this.#check());
    parts.code.addEventListener("click", () => showCode("continue", this.#prompt, this.#parameters));
    for (const format of FORMATS) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: format.toUpperCase() });
      button.addEventListener("click", () => this.#download(format, button));
      parts.formats.append(button);
    }
    return element;
  }

  #meter(label) {
    const row = document.createElement("label");
    const meter = Object.assign(document.createElement("progress"), { max: 1, value: 0 });
    row.append(label, meter);
    row.hidden = true;
    this.#parts.meters.append(row);
    return meter;
  }

  #offer() {
    this.#parts.again.textContent = this.#cutAt() ? `Continue from ${clock(this.#cutAt())}` : "Continue from the end";
  }

  /** Seconds at which to go on if not at the end: where the playhead stands in the new part. */
  #cutAt() {
    const { paused, currentTime, duration } = this.#player;
    const seam = this.#prompt.samples.length / RATE;
    return paused && currentTime > seam + 0.2 && currentTime < duration - 0.2 ? currentTime : 0;
  }

  #continue() {
    const end = this.#cutAt() ? Math.round(this.#cutAt() * RATE) : this.#samples.length;
    this.#player.pause();
    const { name } = this.#prompt;
    const detail = { samples: this.#samples.slice(0, end), name: name.endsWith(" …") ? name : `${name} …` };
    this.dispatchEvent(new CustomEvent("continue", { detail }));
  }

  #file(format) {
    return `continuation-${this.#parameters.seed}.${format}`;
  }

  /** The very file that "Download WAV" saves. */
  get #heard() {
    return wav(this.#samples);
  }

  #check() {
    this.#player.pause();
    const detail = { blob: this.#heard, name: `Continuation of ${this.#prompt.name}`, file: this.#file("wav"), url: null };
    this.dispatchEvent(new CustomEvent("check", { detail }));
  }

  /** WAV is what was heard; other formats come from the service, which makes the same sound from the same seed. */
  async #download(format, button) {
    const name = this.#file(format);
    if (format === "wav") {
      save(this.#heard, name);
      return;
    }
    button.disabled = true;
    button.classList.add("busy");
    this.#say(`Making the ${format.toUpperCase()} file`);
    try {
      save(await api.file(wav(this.#prompt.samples), this.#parameters, format), name);
      this.#say("");
    } catch (error) {
      this.#say(error.message);
    }
    button.disabled = false;
    button.classList.remove("busy");
  }
}
