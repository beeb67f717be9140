// Plays samples while later ones are still arriving.
//
// A Player looks like a media element to the waveform library (currentTime, duration, paused, play, pause and the
// events), and feeds Web Audio piece by piece. At the end of what has arrived it waits and goes on by itself.

import { RATE } from "./sound.js";

const AHEAD = 0.06; // seconds between the decision to play and the first sound
const ENOUGH = 0.4; // seconds that must have arrived before playing goes on after a gap

let shared = null;
let current = null; // only one player sounds at a time

/** The page's audio output. Call from a click first: browsers keep it silent until then. */
export function output() {
  if (shared === null) {
    try {
      shared = new AudioContext({ sampleRate: RATE });
    } catch {
      shared = new AudioContext();
    }
  }
  if (shared.state === "suspended") shared.resume();
  return shared;
}

export class Player extends EventTarget {
  volume = 1;
  muted = false;
  playbackRate = 1;
  seeking = false;
  readyState = 4;
  src = "";
  currentSrc = "";
  paused = true;
  waiting = false; // playing, but at the end of what has arrived
  loop = false;

  #samples; // room for everything that will arrive
  #arrived; // how many of them are there
  #position = 0; // in samples, while no sound is scheduled
  #sources = [];
  #startedAt = 0; // time of the output at which sample #startedFrom sounds
  #startedFrom = 0;
  #scheduled = 0; // samples handed to the output
  #range = null; // [start, end] in samples to play, or null for everything
  #timer = 0;

  constructor(samples, arrived = samples.length) {
    super();
    this.#samples = samples;
    this.#arrived = arrived;
  }

  get duration() {
    return this.#samples.length / RATE;
  }

  get arrived() {
    return this.#arrived;
  }

  get complete() {
    return this.#arrived === this.#samples.length;
  }

  get ended() {
    return this.paused && this.#position >= this.#samples.length;
  }

  get currentTime() {
    return this.#now() / RATE;
  }

  set currentTime(seconds) {
    const sounding = !this.paused;
    this.#silence();
    this.#position = Math.max(0, Math.min(Math.round(seconds * RATE), this.#samples.length));
    if (sounding) this.#sound();
    this.dispatchEvent(new Event("seeking"));
    this.dispatchEvent(new Event("seeked"));
    this.dispatchEvent(new Event("timeupdate"));
  }

  /** More samples have been written into the array. */
  arrive(count) {
    this.#arrived += count;
    if (this.paused) return;
    if (!this.waiting) this.#schedule();
    else if (this.complete || this.#arrived - this.#position > ENOUGH * RATE) this.#sound();
  }

  /** Nothing more will come: what is there is all. */
  cut() {
    this.#samples = this.#samples.subarray(0, this.#arrived);
    if (this.waiting) this.#finish();
  }

  /** Play only this part, in seconds; null for everything. */
  limit(range) {
    this.#range = range && range.map((seconds) => Math.round(seconds * RATE));
  }

  async play() {
    if (!this.paused) return;
    if (current !== this) current?.pause();
    current = this;
    const [start, end] = this.#range ?? [0, this.#samples.length];
    if (this.#position < start || this.#position >= end) this.#position = start;
    this.paused = false;
    this.dispatchEvent(new Event("play"));
    this.#sound();
    this.#timer = setInterval(() => this.#tick(), 50);
  }

  pause() {
    if (this.paused) return;
    this.#silence();
    this.paused = true;
    this.waiting = false;
    clearInterval(this.#timer);
    this.dispatchEvent(new Event("pause"));
    this.dispatchEvent(new Event("timeupdate"));
  }

  get #end() {
    return this.#range ? Math.min(this.#range[1], this.#samples.length) : this.#samples.length;
  }

  #now() {
    if (!this.#sources.length) return this.#position;
    const passed = Math.round((output().currentTime - this.#startedAt) * RATE);
    return Math.max(this.#startedFrom, Math.min(this.#startedFrom + passed, this.#scheduled));
  }

  #sound() {
    this.#startedFrom = this.#scheduled = this.#position;
    this.#startedAt = output().currentTime + AHEAD;
    this.waiting = false;
    this.#schedule();
    if (!this.#sources.length) this.waiting = true;
  }

  #schedule() {
    const stop = Math.min(this.#arrived, this.#end);
    if (stop <= this.#scheduled) return;
    const context = output();
    const buffer = context.createBuffer(1, stop - this.#scheduled, RATE);
    buffer.copyToChannel(this.#samples.subarray(this.#scheduled, stop), 0);
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(context.destination);
    source.start(this.#startedAt + (this.#scheduled - this.#startedFrom) / RATE);
    this.#sources.push(source);
    this.#scheduled = stop;
  }

  #silence() {
    this.#position = this.#now();
    for (const source of this.#sources) source.stop();
    this.#sources = [];
  }

  #tick() {
    if (this.#now() >= this.#end) {
      this.#finish();
    } else if (!this.waiting && this.#sources.length && this.#now() >= this.#scheduled) {
      this.#silence(); // everything that has arrived has sounded
      this.waiting = true;
    }
    this.dispatchEvent(new Event("timeupdate"));
  }

  #finish() {
    this.#silence();
    if (this.loop) {
      this.#position = this.#range?.[0] ?? 0;
      this.#sound();
      return;
    }
    this.#position = this.#end;
    this.paused = true;
    this.waiting = false;
    clearInterval(this.#timer);
    this.dispatchEvent(new Event("pause"));
    this.dispatchEvent(new Event("ended"));
  }

  // What else the waveform library asks of a media element.
  load() {}
  remove() {}
  removeAttribute() {}
  canPlayType() {
    return "";
  }
}
