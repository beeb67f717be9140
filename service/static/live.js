// The waveform of the last seconds, while they are recorded.

import WaveSurfer from "./vendor/wavesurfer.js";
import { color, look } from "./track.js";

const SHOWN_SECONDS = 6;
const PEAKS_PER_SECOND = 50;
const REDRAW_SECONDS = 0.08;
const REST = 4; // times as long as a drawing took, so that a slow machine keeps up with the sound
const SOFTEST = 0.05; // a peak that fills the height: noise below stays small
const AUDIBLE = 0.01;

export class LiveWave {
  heard = false; // was there any sound so far
  #wave;
  #peaks = new Float32Array(SHOWN_SECONDS * PEAKS_PER_SECOND);
  #samplesPerPeak;
  #peak = 0; // of the samples since the last complete one
  #count = 0;
  #nextDrawing = 0; // milliseconds

  constructor(container, rate) {
    this.#samplesPerPeak = rate / PEAKS_PER_SECOND;
    this.#wave = WaveSurfer.create({
      ...look(),
      container,
      waveColor: color("made-played"),
      cursorWidth: 0,
      normalize: true,
    });
  }

  push(samples) {
    const complete = [];
    for (const sample of samples) {
      this.#peak = Math.max(this.#peak, Math.abs(sample));
      if (++this.#count < this.#samplesPerPeak) continue;
      complete.push(this.#peak);
      this.#count -= this.#samplesPerPeak;
      this.#peak = 0;
    }
    this.#peaks.copyWithin(0, complete.length);
    this.#peaks.set(complete, this.#peaks.length - complete.length);
    this.heard ||= complete.some((peak) => peak > AUDIBLE);
    if (performance.now() >= this.#nextDrawing) this.#draw();
  }

  destroy() {
    this.#wave.destroy();
  }

  async #draw() {
    this.#nextDrawing = Infinity;
    const started = performance.now();
    this.#wave.options.maxPeak = this.#peaks.reduce((most, peak) => Math.max(most, peak), SOFTEST);
    try {
      await this.#wave.load("", [this.#peaks.slice()], SHOWN_SECONDS);
    } catch {
      return; // destroyed meanwhile
    }
    const ended = performance.now();
    this.#nextDrawing = ended + Math.max(1000 * REDRAW_SECONDS, REST * (ended - started));
  }
}
