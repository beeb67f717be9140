// Sound as samples: Float32Array, mono, at RATE, everywhere on this page.

export const RATE = 16000;

/** Any file the browser can decode, as mono samples at RATE. Throws if it cannot. */
export async function decode(blob) {
  const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
  if (buffer.numberOfChannels === 1) return exact(buffer.getChannelData(0));
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / buffer.numberOfChannels;
  }
  return mono;
}

/** Chromium decodes a 16-bit sample x > 0 as x / 32767, all others as x / 32768: undone, so that they come back as they are. */
function exact(samples) {
  const positive = samples.filter((value) => value > 0);
  if (!positive.every((value) => Math.abs(value * 32767 - Math.round(value * 32767)) < 0.01)) return samples;
  return samples.map((value) => (value > 0 ? (value * 32767) / 32768 : value));
}

/** Samples as a 16-bit WAV file. */
export function wav(samples, rate = RATE) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, string) => [...string].forEach((c, i) => bytes.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true);
  bytes.setUint16(22, 1, true);
  bytes.setUint32(24, rate, true);
  bytes.setUint32(28, 2 * rate, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  text(36, "data");
  bytes.setUint32(40, 2 * samples.length, true);
  for (let i = 0; i < samples.length; i++) {
    bytes.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768))), true);
  }
  return new Blob([bytes], { type: "audio/wav" });
}

/** Takes 16-bit little-endian bytes in pieces of any size; gives the samples that are complete. */
export class PcmReader {
  #rest = new Uint8Array(0);

  read(piece) {
    const bytes = new Uint8Array(this.#rest.length + piece.length);
    bytes.set(this.#rest);
    bytes.set(piece, this.#rest.length);
    const count = bytes.length >> 1;
    const view = new DataView(bytes.buffer);
    const samples = new Float32Array(count);
    for (let i = 0; i < count; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
    this.#rest = bytes.slice(2 * count);
    return samples;
  }
}

export function joined(...parts) {
  const all = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** 3.07 -> "0:03.1" */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = (tenths % 600) / 10;
  return `${Math.floor(tenths / 600)}:${rest < 10 ? "0" : ""}${rest.toFixed(1)}`;
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
