// Records the microphone, without loss, and draws what it hears.
//
// Sound is taken on the audio thread (listener.js), so neither the recording nor its waveform misses anything while
// the page is busy. An AnalyserNode that is asked on a timer sees only the samples around each question.

import { joined, wav } from "./sound.js";
import { LiveWave } from "./live.js";

const LONGEST = 30; // seconds
const CHANNEL = { numberOfInputs: 1, numberOfOutputs: 1, channelCount: 1, channelCountMode: "explicit" };
const UNTOUCHED = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** Fires "progress" with `detail` {seconds, heard: was there any sound}, "end" with `detail` a WAV file or null. */
export class Recorder extends EventTarget {
  #context = null;
  #stream = null;
  #live = null;
  #blocks = [];
  #count = 0; // samples

  get active() {
    return this.#context !== null;
  }

  /** Draws into `container`. Throws where the microphone cannot be used. */
  async start(container) {
    const context = new AudioContext();
    this.#context = context;
    this.#blocks = [];
    this.#count = 0;
    const stopped = () => this.#context !== context; // while the browser asked
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: UNTOUCHED });
      if (stopped()) return stream.getTracks().forEach((track) => track.stop());
      this.#stream = stream;
      await context.audioWorklet.addModule(new URL("listener.js", import.meta.url));
      await context.resume();
      if (!stopped()) this.#listen(container);
    } catch (error) {
      if (stopped()) return;
      this.#release();
      throw error;
    }
  }

  stop() {
    if (!this.active) return;
    const file = this.#count ? wav(joined(...this.#blocks), this.#context.sampleRate) : null;
    this.#release();
    this.dispatchEvent(new CustomEvent("end", { detail: file }));
  }

  #listen(container) {
    const context = this.#context;
    this.#live = new LiveWave(container, context.sampleRate);
    const listener = new AudioWorkletNode(context, "listener", CHANNEL);
    listener.port.onmessage = ({ data }) => this.#hear(data);
    context.createMediaStreamSource(this.#stream).connect(listener).connect(context.destination); // it keeps silent
  }

  #hear(block) {
    if (!this.active) return;
    this.#blocks.push(block);
    this.#count += block.length;
    this.#live.push(block);
    const seconds = this.#count / this.#context.sampleRate;
    this.dispatchEvent(new CustomEvent("progress", { detail: { seconds, heard: this.#live.heard } }));
    if (seconds >= LONGEST) this.stop();
  }

  #release() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#context.close();
    this.#live?.destroy();
    this.#context = this.#stream = this.#live = null;
  }
}
