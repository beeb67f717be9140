// The dialog with the request as curl and as Python.

import { save, wav } from "./sound.js";
import { curl, python } from "./snippets.js";

const dialog = document.getElementById("code");
const part = (name) => dialog.querySelector(`[data-part=${name}]`);
let prompt = null;

export const access = { needsKey: false };

export function showCode(clip, parameters) {
  prompt = clip;
  const base = new URL(".", location).href;
  part("curl").textContent = curl(base, clip, parameters, access.needsKey);
  part("python").textContent = python(base, clip, parameters, access.needsKey);
  part("clip").hidden = clip.url !== null;
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
part("save").addEventListener("click", () => save(wav(prompt.samples), prompt.file));
part("close").addEventListener("click", () => dialog.close());
