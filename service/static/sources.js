// Where a clip comes from: the built-in ones, a file, the microphone. One row of choices, used by several views.

import * as api from "./api.js";
import { output } from "./player.js";
import { Recorder } from "./recorder.js";
import { clock } from "./sound.js";

const CLIPS = [
  { file: "speech-harbor.flac", name: "Harbor", kind: "speech" },
  { file: "speech-evening.flac", name: "Evening", kind: "speech" },
  { file: "piano-waltz.flac", name: "Waltz", kind: "piano" },
  { file: "piano-nocturne.flac", name: "Nocturne", kind: "piano" },
];
const PATIENCE_SECONDS = 2; // of silence, until the page wonders

/**
 * Fires "clip" with `detail` {blob, name, file, url}: `file` is a file name, `url` where it can be had or null;
 * "record" when a recording begins; "problem" with `detail` a sentence.
 */
export class Sources extends EventTarget {
  #parts = {};
  #recorder = new Recorder();

  constructor(container) {
    super();
    container.append(document.getElementById("sources").content.cloneNode(true));
    for (const part of container.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    this.#offerClips();
    this.#watchFiles();
    this.#watchRecorder();
  }

  /** No built-in clip is the chosen one any more. */
  release() {
    for (const button of this.#parts.clips.children) button.setAttribute("aria-pressed", "false");
  }

  #choose(clip) {
    this.release();
    this.dispatchEvent(new CustomEvent("clip", { detail: clip }));
  }

  #problem(text) {
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
        output(); // in the click, or browsers keep silent
        try {
          const url = new URL(`static/clips/${file}`, location).href;
          this.#choose({ blob: await api.clip(file), name: `${name}, ${kind}`, file, url });
          button.setAttribute("aria-pressed", "true");
        } catch (error) {
          this.#problem(error.message);
        }
      });
      this.#parts.clips.append(button);
    }
  }

  #watchFiles() {
    this.#parts.file.addEventListener("change", (event) => {
      this.#open(event.target.files);
      event.target.value = "";
    });
    const root = document.documentElement;
    addEventListener("dragover", (event) => {
      event.preventDefault();
      if (this.#ready) root.classList.add("dropping");
    });
    addEventListener("dragleave", (event) => event.relatedTarget ?? root.classList.remove("dropping"));
    addEventListener("drop", (event) => {
      event.preventDefault();
      root.classList.remove("dropping");
      if (this.#ready) this.#open(event.dataTransfer.files);
    });
  }

  /** To take a file that is dropped: its view is open, and it does not record. */
  get #ready() {
    return this.#parts.row.offsetParent !== null && !this.#recorder.active;
  }

  #open([file]) {
    if (file) this.#choose({ blob: file, name: file.name, file: file.name, url: null });
  }

  #watchRecorder() {
    const { record, label, hint } = this.#parts;
    record.addEventListener("click", () => (this.#recorder.active ? this.#recorder.stop() : this.#record()));
    this.#recorder.addEventListener("progress", ({ detail: { seconds, heard } }) => {
      const shown = `Stop  ${clock(seconds)}`;
      if (label.textContent === shown) return;
      label.textContent = shown;
      hint.textContent =
        heard || seconds < PATIENCE_SECONDS
          ? "Speak or play for a few seconds, then stop."
          : "Nothing is heard yet. Is the right microphone chosen, and not muted?";
    });
    this.#recorder.addEventListener("end", (event) => {
      this.#showRecording(false);
      if (event.detail) this.#choose({ blob: event.detail, name: "Recording", file: "recording.wav", url: null });
    });
  }

  async #record() {
    if (!navigator.mediaDevices) {
      this.#problem("Browsers record on https pages and on localhost only. Open this page there, or open a file.");
      return;
    }
    this.release();
    this.dispatchEvent(new Event("record"));
    this.#showRecording(true);
    try {
      await this.#recorder.start(this.#parts.wave);
    } catch {
      this.#showRecording(false);
      this.#problem("The microphone cannot be used. Allow it for this page in the browser, then try again.");
    }
  }

  #showRecording(recording) {
    const { row, live, label, hint, clips, opener } = this.#parts;
    row.classList.toggle("recording", recording);
    live.hidden = !recording;
    clips.inert = opener.inert = recording;
    label.textContent = recording ? "Stop" : "Record";
    hint.textContent = recording ? "Waiting for the microphone. Allow it if the browser asks." : "";
  }
}
