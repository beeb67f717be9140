// The page: brings its parts together. Each part knows its own elements; nothing here draws or plays.

import { showCard } from "./about.js";
import * as api from "./api.js";
import { Check } from "./check.js";
import { access } from "./code.js";
import { output } from "./player.js";
import { Prompt } from "./prompt.js";
import { Take } from "./take.js";
import * as views from "./views.js";

const MOST_VERSIONS = 4; // a browser opens six connections to one service, and progress needs one
const LARGEST_SEED = 2 ** 31 - 1;

const get = (id) => document.getElementById(id);
const prompt = new Prompt();
const check = new Check();
let running = [];

prompt.addEventListener("change", () => showProblem(""));
prompt.addEventListener("problem", (event) => showProblem(event.detail));
check.addEventListener("said", (event) => (get("status").textContent = event.detail));

get("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  begin();
});
get("cancel").addEventListener("click", () => running.forEach((take) => take.cancel()));
get("key").addEventListener("change", () => {
  api.setKey(get("key").value);
  meetModel();
});
for (const dial of ["seconds", "temperature"]) {
  get(dial).addEventListener("input", showDials);
}
showDials();
meetModel();
meetService();

function begin() {
  output(); // in the click, or browsers keep silent
  showProblem("");
  const selection = prompt.selection;
  const count = Number(new FormData(get("settings")).get("versions") ?? 1);
  const first = get("seed").value === "" ? Math.floor(Math.random() * LARGEST_SEED) : Number(get("seed").value);
  const run = document.createElement("div");
  run.className = "run";
  get("takes").prepend(run);
  const takes = Array.from({ length: count }, (_, i) => {
    const parameters = {
      seconds: Number(get("seconds").value),
      temperature: Number(get("temperature").value),
      seed: (first + i) % (LARGEST_SEED + 1),
    };
    const take = new Take(selection, parameters, { place: count > 1 ? `${i + 1} of ${count}` : "", autoplay: i === 0 });
    take.addEventListener("end", (event) => ended(event.detail));
    take.addEventListener("continue", (event) => {
      prompt.use(event.detail.samples, event.detail.name);
      begin();
    });
    take.addEventListener("check", (event) => {
      views.open("check");
      check.use(event.detail);
    });
    take.addEventListener("remove", () => {
      take.remove();
      if (!run.childElementCount) run.remove();
    });
    run.append(take.element);
    return take;
  });
  running = [...running.filter((take) => take.running), ...takes];
  takes.forEach((take) => take.run());
  showRunning();
  get("status").textContent = count > 1 ? `Making ${count} continuations` : "Making a continuation";
  run.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "nearest" });
}

function ended({ failed, made }) {
  if (!failed) get("status").textContent = `Continuation ready, ${made.toFixed(1)} seconds`;
  showRunning();
}

function showRunning() {
  const busy = running.some((take) => take.running);
  get("cancel").hidden = !busy;
  get("go").disabled = busy;
  get("go").textContent = busy ? "Making it" : "Continue";
  get("go").classList.toggle("busy", busy);
}

function showProblem(text) {
  get("problem").hidden = !text;
  get("problem").textContent = text;
}

function showDials() {
  get("seconds-shown").textContent = `${get("seconds").value} s`;
  get("temperature-shown").textContent = Number(get("temperature").value).toFixed(2);
}

async function meetModel() {
  try {
    const card = await api.model();
    prompt.longest = card.limits.max_prompt_seconds;
    get("seconds").max = Math.floor(card.limits.max_seconds);
    showDials();
    showVersions(Math.min(MOST_VERSIONS, card.limits.max_continuations));
    showCard(card);
    showProblem("");
  } catch (error) {
    showProblem(error.message);
    if (error.status === 503) setTimeout(meetModel, 3000);
  }
}

async function meetService() {
  const { components } = await api.description().catch(() => ({}));
  access.needsKey = Boolean(components?.securitySchemes);
  get("key-row").hidden = !access.needsKey;
}

function showVersions(most) {
  if (get("versions").childElementCount === most) return;
  get("versions").replaceChildren(
    ...Array.from({ length: most }, (_, i) => {
      const label = document.createElement("label");
      const radio = Object.assign(document.createElement("input"), {
        type: "radio",
        name: "versions",
        value: i + 1,
        checked: i === 0,
      });
      label.append(radio, String(i + 1));
      return label;
    }),
  );
}
