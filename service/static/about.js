// The model card, in a few lines.

const get = (id) => document.getElementById(id);

export function showCard(card) {
  const { limits, ...rest } = card;
  get("about-lead").textContent =
    `This service runs “${card.name}”, version ${card.version ?? card.model_version ?? "unknown"}. It listens to the last ` +
    `${limits.max_prompt_seconds} seconds of a clip and makes up to ${limits.max_seconds} new ones, ` +
    `as ${limits.sample_rate / 1000} kHz mono.`;
  const facts = Object.entries(rest).filter(([, value]) => typeof value !== "object" || isShort(value));
  get("about-facts").replaceChildren(
    ...facts.flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: name.replaceAll("_", " ") }),
      Object.assign(document.createElement("dd"), { textContent: shown(value) }),
    ]),
  );
  const whole = get("about-card");
  whole.hidden = false;
  whole.querySelector("pre").textContent = JSON.stringify(card, null, 2);
}

const isShort = (value) => Array.isArray(value) && value.length < 6 && value.every((item) => typeof item !== "object");

const shown = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
