// A waveform and a spectrogram of samples, in two colors: what was given, and what was made.

import WaveSurfer from "./vendor/wavesurfer.js";
import Spectrogram from "./vendor/spectrogram.js";
import { RATE } from "./sound.js";

const WAVE_HEIGHT = 72;
const SPECTROGRAM_HEIGHT = 72;
const REDRAW_SECONDS = 0.5; // while sound arrives
const LONGEST_SPECTROGRAM = 90; // seconds; of longer clips it takes the browser too long

const nonce = document.querySelector("meta[name=csp-nonce]").nonce;

export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** What all waveforms of this page have in common. */
export function look() {
  return {
    height: WAVE_HEIGHT,
    barWidth: 2,
    barGap: 1,
    barRadius: 2,
    barMinHeight: 1,
    interact: false,
    hideScrollbar: true,
    cursorWidth: 2,
    cursorColor: color("cursor"),
    waveColor: color("given"),
    progressColor: color("given-played"),
    cspNonce: nonce,
  };
}

export class Track {
  #samples;
  #made; // [[from, to], ...] in samples, in order
  #spectrogram;
  #player;
  #plugins;
  #drawnAt = -Infinity;
  #pending = 0;
  #open = false; // is there room to draw, or is the view closed
  #recolor = () => this.#build();
  // The waveform library draws anew 100 ms after a change of width, but not if it is told to draw in between.
  #opened = new ResizeObserver(() => this.container.clientWidth > 0 !== this.#open && this.#draw());

  /** Draw `samples` into `container`; those from `seam` on were made. `plugins()` makes more for the waveform. */
  constructor(container, samples, { seam = samples.length, player, plugins = () => [] }) {
    this.container = container;
    this.#samples = samples;
    this.#made = [[seam, Infinity]];
    this.#spectrogram = samples.length < LONGEST_SPECTROGRAM * RATE;
    this.#player = player;
    this.#plugins = plugins;
    this.#build();
    this.#opened.observe(container);
    document.addEventListener("themechange", this.#recolor);
  }

  /** More of the samples are there: draw them, but not at every piece. */
  update({ now = false } = {}) {
    clearTimeout(this.#pending);
    const due = this.#drawnAt + 1000 * REDRAW_SECONDS - performance.now();
    if (now || due <= 0) this.#draw();
    else this.#pending = setTimeout(() => this.#draw(), due);
  }

  /** Other samples instead, on the same timeline. */
  replace(samples) {
    this.#samples = samples;
    this.update({ now: true });
  }

  /** These parts were made, in seconds and in order; everything else was given. */
  mark(made) {
    this.#made = made.map(({ start, end }) => [start * RATE, end * RATE]);
    this.#build();
  }

  destroy() {
    clearTimeout(this.#pending);
    this.#opened.disconnect();
    document.removeEventListener("themechange", this.#recolor);
    this.wave.destroy();
  }

  #build() {
    this.wave?.destroy();
    this.container.replaceChildren();
    this.wave = WaveSurfer.create({
      ...look(),
      container: this.container,
      media: this.#player,
      normalize: true,
      plugins: [
        ...(this.#spectrogram ? [spectrogram()] : []),
        ...this.#plugins(),
      ],
    });
    this.wave.on("resize", () => this.wave.setOptions(this.#colors()));
    this.#draw();
  }

  #draw() {
    this.#open = this.container.clientWidth > 0;
    if (!this.#open) return;
    this.#drawnAt = performance.now();
    Object.assign(this.wave.options, this.#colors());
    this.wave.load("", [this.#samples], this.#samples.length / RATE);
  }

  #colors() {
    const width = this.container.clientWidth * devicePixelRatio || 1;
    const split = (given, made) => {
      const gradient = document.createElement("canvas").getContext("2d").createLinearGradient(0, 0, width, 0);
      const stop = (at, name) => gradient.addColorStop(Math.min(1, at / this.#samples.length), color(name));
      stop(0, given);
      for (const [from, to] of this.#made) {
        stop(from, given);
        stop(from, made);
        stop(to, made);
        stop(to, given);
      }
      return gradient;
    };
    return { waveColor: split("given", "made"), progressColor: split("given-played", "made-played") };
  }
}

function spectrogram() {
  return Spectrogram.create({
    height: SPECTROGRAM_HEIGHT,
    fftSamples: 512,
    scale: "mel",
    frequencyMax: RATE / 2,
    autoGain: true,
    rangeDB: 60,
    preEmphasis: 3,
    colorMap: colorMap(),
  });
}

/** From background to brightest, 256 steps [r, g, b, a] in 0..1, for the spectrogram. */
function colorMap() {
  const stops = [0, 1, 2, 3].map((i) => {
    const hex = color(`spectrogram-${i}`);
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
  });
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1);
    const from = Math.min(Math.floor(at), stops.length - 2);
    return [...stops[from].map((value, c) => value + (stops[from + 1][c] - value) * (at - from)), 1];
  });
}
