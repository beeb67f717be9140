// The clip to continue, and the part of it that is used.

import Regions from "./vendor/regions.js";
import { Player, output } from "./player.js";
import { RATE, decode } from "./sound.js";
import { Sources } from "./sources.js";
import { Track, color } from "./track.js";

const LARGEST_FILE = 64 * 2 ** 20; // bytes that a browser can be asked to decode
const SHORTEST = 0.1; // seconds of a selection

const get = (id) => document.getElementById(id);

/** Fires "change" when there is a (new) clip, "problem" with `detail` when one cannot be read. */
export class Prompt extends EventTarget {
  longest = 10; // seconds the model can use; the model card tells
  #clip = null; // {samples, name, url}
  #start = 0; // selection in seconds
  #end = 0;
  #track = null;
  #player = null;
  #region = null;
  #sources = new Sources(get("continue-sources"));

  constructor() {
    super();
    this.#sources.addEventListener("clip", (event) => this.#open(event.detail));
    this.#sources.addEventListener("problem", (event) => this.#problem(event.detail));
    this.#sources.addEventListener("record", () => this.#clear());
    this.#watchSelection();
  }

  /** {samples, name, file, url}: the selected part, and under which name it can be had elsewhere. */
  get selection() {
    const { samples, name, url } = this.#clip;
    const part = samples.slice(Math.round(this.#start * RATE), Math.round(this.#end * RATE));
    const whole = part.length === samples.length && url;
    return { samples: part, name, file: whole ? url.split("/").pop() : "prompt.wav", url: whole ? url : null };
  }

  /** Continue these samples from now on. */
  use(samples, name) {
    this.#sources.release();
    this.#use(samples, name, null);
  }

  #use(samples, name, url) {
    this.#clear();
    this.#clip = { samples, name, url };
    get("prompt").hidden = get("settings").hidden = false;
    get("prompt-name").textContent = name;
    const seconds = samples.length / RATE;
    for (const id of ["from", "to"]) get(id).max = seconds.toFixed(1);
    this.#player = new Player(samples);
    for (const event of ["play", "pause"]) this.#player.addEventListener(event, () => this.#showPlaying());
    this.#track = new Track(get("prompt-wave"), samples, { player: this.#player, plugins: () => [this.#regions()] });
    this.#select(Math.max(0, seconds - this.longest), seconds);
    this.dispatchEvent(new Event("change"));
  }

  #clear() {
    this.#player?.pause();
    this.#track?.destroy();
    this.#track = this.#player = this.#region = this.#clip = null;
    get("prompt").hidden = get("settings").hidden = true;
  }

  async #open({ blob, name, url }) {
    if (blob.size > LARGEST_FILE) {
      this.#problem(`${name} is larger than this page can open. Cut out the part to continue and open that.`);
      return;
    }
    let samples;
    try {
      samples = await decode(blob);
    } catch {
      this.#problem(`${name} is not a sound file that this browser can read. Try WAV, FLAC, MP3 or Ogg.`);
      return;
    }
    if (samples.length < SHORTEST * RATE) this.#problem(`${name} has hardly any sound. Choose a longer clip.`);
    else this.#use(samples, name, url);
  }

  #problem(text) {
    this.dispatchEvent(new CustomEvent("problem", { detail: text }));
  }

  #watchSelection() {
    get("from").addEventListener("change", () => this.#select(Number(get("from").value), this.#end));
    get("to").addEventListener("change", () => this.#select(this.#start, Number(get("to").value)));
    get("prompt-play").addEventListener("click", () => {
      output();
      if (this.#player.paused) this.#player.play();
      else this.#player.pause();
    });
  }

  #regions() {
    const regions = Regions.create();
    queueMicrotask(() => {
      this.#region = regions.addRegion({
        start: this.#start,
        end: this.#end,
        minLength: SHORTEST,
        color: color("selection"),
      });
      const moved = () => this.#select(this.#region.start, this.#region.end, { drawn: true });
      this.#region.on("update", moved);
      this.#region.on("update-end", moved);
    });
    return regions;
  }

  #select(start, end, { drawn = false } = {}) {
    const seconds = this.#clip.samples.length / RATE;
    this.#end = Math.max(SHORTEST, Math.min(end || 0, seconds));
    this.#start = Math.max(0, Math.min(start || 0, this.#end - SHORTEST));
    get("from").value = this.#start.toFixed(1);
    get("to").value = this.#end.toFixed(1);
    this.#player.limit([this.#start, this.#end]);
    if (!drawn) this.#region?.setOptions({ start: this.#start, end: this.#end });
    const length = this.#end - this.#start;
    get("prompt-hint").textContent =
      length > this.longest + 0.05
        ? `${length.toFixed(1)} s selected. The model listens to the last ${this.longest} seconds of it.`
        : `${length.toFixed(1)} s selected. Drag the edges to choose what is continued; the new sound begins at its end.`;
  }

  #showPlaying() {
    const playing = !this.#player.paused;
    get("prompt-play").classList.toggle("playing", playing);
    get("prompt-play").setAttribute("aria-label", playing ? "Pause the selection" : "Play the selection");
  }
}
