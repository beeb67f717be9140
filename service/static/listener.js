// Runs on the audio thread: hands every sample of the microphone to the page, however busy the page is.

const BLOCK = 1024;

registerProcessor(
  "listener",
  class extends AudioWorkletProcessor {
    #block = new Float32Array(BLOCK);
    #filled = 0;

    process([[samples]]) {
      if (!samples) return true; // the microphone has not begun
      this.#block.set(samples, this.#filled);
      this.#filled += samples.length;
      if (this.#filled === BLOCK) {
        this.port.postMessage(this.#block.slice());
        this.#filled = 0;
      }
      return true;
    }
  },
);
