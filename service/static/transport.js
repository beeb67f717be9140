// Play, seek, loop and time of one player, for whatever shows one.

import { clock } from "./sound.js";

/**
 * Binds `player` to elements {play, seek, time} and perhaps loop. `said(seconds)` adds to what is read out at a
 * position. `onMove` hears of every change.
 */
export class Transport {
  #player;
  #parts;
  #said;
  #onMove;

  constructor(player, parts, { said = () => "", onMove = () => {} } = {}) {
    this.#player = player;
    this.#parts = parts;
    this.#said = said;
    this.#onMove = onMove;
    parts.play.addEventListener("click", () => (player.paused ? player.play() : player.pause()));
    parts.seek.addEventListener("input", () => (player.currentTime = Number(parts.seek.value)));
    parts.loop?.addEventListener("click", () => {
      player.loop = !player.loop;
      parts.loop.setAttribute("aria-pressed", String(player.loop));
    });
    for (const event of ["play", "pause", "ended", "timeupdate"]) player.addEventListener(event, () => this.show());
    this.show();
  }

  show() {
    const { play, seek, time } = this.#parts;
    const { paused, currentTime, duration, waiting } = this.#player;
    const said = this.#said(currentTime);
    play.classList.toggle("playing", !paused);
    play.setAttribute("aria-label", paused ? "Play" : "Pause");
    seek.max = duration;
    seek.value = currentTime;
    seek.setAttribute("aria-valuetext", said ? `${clock(currentTime)}, ${said}` : clock(currentTime));
    time.textContent = waiting ? "waiting for more" : `${clock(currentTime)} / ${clock(duration)}`;
    this.#onMove(currentTime);
  }
}
