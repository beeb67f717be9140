// The clip to continue and the part of it that is used: built-in clips, files, the microphone; the selection.

import WaveSurfer from "./vendor/wavesurfer.js";
import Record from "./vendor/record.js";
import Regions from "./vendor/regions.js";
import * as api from "./api.js";
import { Player, output } from "./player.js";
import { RATE, clock, decode } from "./sound.js";
import { Track, color, look } from "./track.js";

const LARGEST_FILE = 64 * 2 ** 20; // bytes that a browser can be asked to decode
const LONGEST_RECORDING = 30; // seconds
const SHORTEST = 0.1; // seconds of a selection

const CLIPS = [
  { file: "speech-harbor.flac", name: "Harbor", kind: "speech" },
  { file: "speech-evening.flac", name: "Evening", kind: "speech" },
  { file: "piano-waltz.flac", name: "Waltz", kind: "piano" },
  { file: "piano-nocturne.flac", name: "Nocturne", kind: "piano" },
];

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

  constructor() {
    super();
    this.#offerClips();
    this.#watchFiles();
    this.#watchSelection();
    new Recorder(this);
  }

  get ready() {
    return this.#clip !== null;
  }

  /** {samples, name, file, url}: the selected part, and under which name it can be had elsewhere. */
  get selection() {
    const { samples, name, url } = this.#clip;
    const part = samples.slice(Math.round(this.#start * RATE), Math.round(this.#end * RATE));
    const whole = part.length === samples.length && url;
    return { samples: part, name, file: whole ? url.split("/").pop() : "prompt.wav", url: whole ? url : null };
  }

  /** Continue these samples from now on. */
  use(samples, name, url = null) {
    this.clear();
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

  clear() {
    this.#player?.pause();
    this.#track?.destroy();
    this.#track = this.#player = this.#region = this.#clip = null;
    for (const button of get("clips").children) button.setAttribute("aria-pressed", "false");
  }

  async useFile(blob, name, url = null) {
    if (blob.size > LARGEST_FILE) {
      this.problem(`${name} is larger than this page can open. Cut out the part to continue and open that.`);
      return;
    }
    let samples;
    try {
      samples = await decode(blob);
    } catch {
      this.problem(`${name} is not a sound file that this browser can read. Try WAV, FLAC, MP3 or Ogg.`);
      return;
    }
    if (samples.length < SHORTEST * RATE) this.problem(`${name} has hardly any sound. Choose a longer clip.`);
    else this.use(samples, name, url);
  }

  problem(text) {
    this.dispatchEvent(new CustomEvent("problem", { detail: text }));
  }

  #offerClips() {
    for (const { file, name, kind } of CLIPS) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "clip";
      button.setAttribute("aria-pressed", "false");
      button.append(name, Object.assign(document.createElement("small"), { textContent: kind }));
      button.addEventListener("click", async () => {
        try {
          await this.useFile(await api.clip(file), `${name}, ${kind}`, new URL(`static/clips/${file}`, location).href);
          button.setAttribute("aria-pressed", "true");
        } catch (error) {
          this.problem(error.message);
        }
      });
      get("clips").append(button);
    }
  }

  #watchFiles() {
    get("file").addEventListener("change", (event) => {
      const [file] = event.target.files;
      if (file) this.useFile(file, file.name);
      event.target.value = "";
    });
    const root = document.documentElement;
    addEventListener("dragover", (event) => {
      event.preventDefault();
      root.classList.add("dropping");
    });
    addEventListener("dragleave", (event) => event.relatedTarget ?? root.classList.remove("dropping"));
    addEventListener("drop", (event) => {
      event.preventDefault();
      root.classList.remove("dropping");
      const [file] = event.dataTransfer.files;
      if (file && !document.body.classList.contains("recording")) this.useFile(file, file.name);
    });
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
        ? `${clock(length)} selected. The model listens to the last ${this.longest} seconds of it.`
        : `${clock(length)} selected. Drag the edges to choose what is continued; the new sound begins at its end.`;
  }

  #showPlaying() {
    const playing = !this.#player.paused;
    get("prompt-play").classList.toggle("playing", playing);
    get("prompt-play").setAttribute("aria-label", playing ? "Pause the selection" : "Play the selection");
  }
}

/** The microphone button. */
class Recorder {
  #prompt;
  #wave = null;
  #plugin = null;

  constructor(prompt) {
    this.#prompt = prompt;
    get("record").addEventListener("click", () => (this.#plugin ? this.#plugin.stopRecording() : this.#start()));
  }

  async #start() {
    if (!navigator.mediaDevices) {
      this.#prompt.problem("Browsers record on https pages and on localhost only. Open this page there, or open a file.");
      return;
    }
    this.#prompt.clear();
    get("prompt").hidden = false;
    get("settings").hidden = true;
    get("prompt-name").textContent = "Recording";
    get("prompt-hint").textContent = "Speak or play for a few seconds, then stop.";
    this.#plugin = Record.create({ scrollingWaveform: true, renderRecordedAudio: false });
    get("prompt-wave").replaceChildren();
    this.#wave = WaveSurfer.create({
      ...look(),
      container: get("prompt-wave"),
      waveColor: color("made"),
      plugins: [this.#plugin],
    });
    this.#plugin.on("record-progress", (milliseconds) => {
      get("record-label").textContent = `Stop  ${clock(milliseconds / 1000)}`;
      if (milliseconds > 1000 * LONGEST_RECORDING) this.#plugin.stopRecording();
    });
    this.#plugin.on("record-end", (blob) => {
      this.#end();
      this.#prompt.useFile(blob, "Recording");
    });
    this.#showRecording(true);
    try {
      await this.#plugin.startRecording({ echoCancellation: false, noiseSuppression: false, autoGainControl: false });
    } catch {
      this.#end();
      get("prompt").hidden = true;
      this.#prompt.problem("The microphone cannot be used. Allow it for this page in the browser, then try again.");
    }
  }

  #showRecording(recording) {
    document.body.classList.toggle("recording", recording);
    get("clips").inert = get("file-label").inert = get("file").disabled = recording;
    get("record-label").textContent = recording ? "Stop" : "Record";
  }

  #end() {
    this.#showRecording(false);
    const wave = this.#wave;
    this.#wave = this.#plugin = null;
    setTimeout(() => wave.destroy()); // after the plugin has finished with the event that brought us here
  }
}
