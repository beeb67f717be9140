// The dialog with the request as curl and as Python.

import { save, wav } from "./sound.js";
import { curl, python } from "./snippets.js";

const dialog = document.getElementById("code");
const part = (name) => dialog.querySelector(`[data-part=${name}]`);
let shown = null;

export const access = { needsKey: false };

/** `route` is "continue" or "detect"; `clip` {file, url} and {samples} or {blob}. */
export function showCode(route, clip, parameters) {
  shown = clip;
  const base = new URL(".", location).href;
  part("curl").textContent = curl(base, route, clip, parameters, access.needsKey);
  part("python").textContent = python(base, route, clip, parameters, access.needsKey);
  part("clip").hidden = clip.url !== null;
  part("which").textContent = route === "continue" ? "the part you selected" : "the file that was checked";
  part("name").textContent = clip.file;
  dialog.showModal();
}

for (const button of dialog.querySelectorAll("[data-copy]")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const code = part(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 2000);
    } catch {
      getSelection().selectAllChildren(code); // the browser allows copying by hand only
      button.textContent = "Selected: press Ctrl+C";
    }
  });
}
part("save").addEventListener("click", () => save(shown.blob ?? wav(shown.samples), shown.file));
part("close").addEventListener("click", () => dialog.close());
