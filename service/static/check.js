// The view that checks a clip: which one, and what came of it. One at a time.

import { Finding } from "./finding.js";
import { Sources } from "./sources.js";

const get = (id) => document.getElementById(id);

/** Fires "said" with `detail` a sentence for people who listen. */
export class Check extends EventTarget {
  #sources = new Sources(get("check-sources"));
  #finding = null;

  constructor() {
    super();
    this.#sources.addEventListener("clip", (event) => this.#check(event.detail));
    this.#sources.addEventListener("problem", (event) => this.#problem(event.detail));
  }

  /** Check this clip now: {blob, name, file, url}. */
  use(clip) {
    this.#sources.release();
    this.#check(clip);
    this.#finding.element.focus({ preventScroll: true });
    this.#finding.element.scrollIntoView({ block: "nearest" });
  }

  #check(clip) {
    this.#problem("");
    this.#finding?.remove();
    const finding = new Finding(clip);
    this.#finding = finding;
    finding.addEventListener("end", (event) => finding === this.#finding && this.#say(event.detail));
    finding.addEventListener("again", () => this.#check(clip));
    get("finding-place").append(finding.element);
    this.#say("Checking the clip");
    finding.run();
  }

  #problem(text) {
    get("check-problem").hidden = !text;
    get("check-problem").textContent = text;
  }

  #say(text) {
    this.dispatchEvent(new CustomEvent("said", { detail: text }));
  }
}
