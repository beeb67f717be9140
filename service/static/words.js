// What the answer of /detect means, in words. Pure: from its JSON to sentences, nothing of the page.
//
// Never says who made a clip that this system did not make. A layer that is null was not asked, which is no finding.

import { clock } from "./sound.js";

export const LAYERS = {
  content_credentials: "Content credentials",
  ledger: "Ledger",
  watermark: "Watermark",
  classifier: "Classifier",
};

const VERDICTS = {
  made_by_this_system: "This system made it",
  partly: "This system made part of it",
  inconclusive: "Not clear",
  no_evidence: "No sign of this system",
};

const WHAT_IT_IS = {
  content_credentials: "A signature inside the file (C2PA) that breaks if anything is changed.",
  ledger: "This service's list of what it has made: digests and fingerprints, no sound.",
  watermark: "An inaudible pattern that this system puts into what it makes. It survives MP3 and the like.",
  classifier: "A small network that has learned how this system sounds.",
};

export const verdict = (answer) => VERDICTS[answer.verdict] ?? answer.verdict;

/** 0.0312 -> "3.1%"; as many digits as the distance from 0 or 1 needs. */
export function percent(value) {
  if (value === 0 || value === 1) return `${100 * value}%`;
  const rest = Math.min(value, 1 - value);
  const digits = Math.max(0, Math.min(4, Math.ceil(-Math.log10(100 * rest)) + (rest < 0.05 ? 1 : 0)));
  return `${Number((100 * value).toFixed(digits))}%`;
}

/** A probability that was estimated: nothing is certain. */
export function likelihood(value) {
  if (value < 0.001) return "under 0.1%";
  if (value > 0.999) return "over 99.9%";
  return percent(value);
}

/** 1e-9 -> "1 in 1 billion" */
function odds(p) {
  const one = 1 / Math.max(p, 1e-18);
  for (const [size, name] of [[1e18, "billion billion"], [1e15, "million billion"], [1e12, "trillion"], [1e9, "billion"], [1e6, "million"]]) {
    if (one >= 0.95 * size) return `1 in ${Math.round(one / size)} ${name}`;
  }
  return one < 3 ? `${Math.round(100 * p)} in 100` : `1 in ${Number(one.toPrecision(2)).toLocaleString("en")}`;
}

export const spans = (parts) => parts.map(({ start, end }) => `${clock(start)} to ${clock(end)}`).join(", ");

/** Per layer, in the order of trust: {name, about, state, said, facts}; `state` is "found" or says why not. */
export function layers(answer) {
  return Object.entries(LAYERS).map(([layer, name]) => {
    const { state = "nothing found", said, facts = [] } = EXPLAIN[layer](answer);
    return { name, about: WHAT_IT_IS[layer], state: answer.evidence.includes(layer) ? "found" : state, said, facts };
  });
}

const off = (said) => ({ state: "not looked at", said });
const known = (facts) => facts.filter(([, value]) => value !== null && value !== undefined && value !== "");

const SIGNED = {
  none: () => "This file carries none. Most programs drop them when they save or send a file, so that says little.",
  ours: () => "This file is signed by this system and unchanged since.",
  other: (who) => `This file is signed by ${who ?? "somebody else"}, not by this system. That counts neither way.`,
  untrusted: (who) => `This file is signed by ${who ?? "somebody"} whom this service does not know. Anybody can sign in any name, so that counts neither way.`,
  invalid: () => "This file carries a signature that does not hold: it was changed after it was signed, or it is damaged. That counts neither way.",
  unsupported: () => "This kind of file cannot be checked for a signature. WAV, FLAC and MP3 can.",
};

const SAID = ["none", "ours"]; // the detail would say no more

const EXPLAIN = {
  content_credentials({ content_credentials: found }) {
    if (!found) return off("This service does not look for signatures: the layer is switched off.");
    return {
      state: { none: "nothing found", unsupported: "not looked at" }[found.state] ?? "does not count",
      said: SIGNED[found.state]?.(found.signer) ?? found.detail,
      facts: known([["Signed by", found.signer], ["Generation", found.generation_id], ["Detail", SAID.includes(found.state) ? null : found.detail]]),
    };
  },

  ledger({ ledger: found }) {
    if (!found) return off("This service keeps no ledger, or could not ask it just now.");
    const said = {
      file: "This very file was an answer of this service.",
      sound: "The file is not one that was answered, but its sound is known: it matches the fingerprints of a generation.",
      payload: "The number in the watermark leads to a generation in the ledger.",
      none: "It knows neither this file nor its sound. Old rows may be gone, and it knows nothing of other deployments.",
    };
    const facts = [
      ["Generation", found.generation_id],
      ["Made", found.created_at && new Date(found.created_at).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })],
      ["Where", found.segments?.length ? spans(found.segments) : null],
      ["Model", found.bundle],
      ["Seed", found.seed],
    ];
    return { said: said[found.match] ?? found.match, facts: known(facts) };
  },

  watermark({ watermark: found }) {
    if (!found) return off("This service does not look for its watermark: the layer is switched off.");
    if (!found.present) {
      return { said: "It was not found. Very short cuts, heavy noise and re-recording can destroy it." };
    }
    const facts = [
      ["Where", found.segments.length ? spans(found.segments) : null],
      ["Number", found.payload === null ? "cannot be read" : found.payload],
      ["Key", found.key_id],
    ];
    const said = `It was found. A clip without it looks like this by chance ${found.p_value < 1e-18 ? "less than " : ""}${odds(found.p_value)} times.`;
    return { said, facts: known(facts) };
  },

  classifier({ probability, operating_point: point }) {
    if (probability === null) return off("This model comes without a classifier, or the clip is too short for it.");
    const said = `It puts the chance that this system made at least a part at ${likelihood(probability)}.`;
    const state = probability < 0.5 ? "nothing found" : "does not count";
    if (!point) return { state, said: `${said} No error rate was measured for clips like this, so that does not count.` };
    const counts = probability >= point.threshold ? "counts" : "does not count";
    return { state, said: `${said} That ${counts}: the line is drawn at ${percent(point.threshold)}.` };
  },
};

/** How often such a verdict is wrong: sentences. */
export function errorRates({ operating_point: point }) {
  const others = "A signature and the digest of a file are exact. The watermark's own rate is the chance given above.";
  if (!point) return ["No error rate of the classifier is known for this clip, so it did not count.", others];
  const clips = point.clips.toLocaleString("en");
  const wrong = point.false_positive_rate > 0 ? `${percent(point.false_positive_rate)} of` : "none of";
  const sentences = [
    `On ${clips} clips of ${point.bucket} that this system did not make, the classifier spoke up for ${wrong} them. ` +
      `The true rate is at most ${percent(point.upper_bound)} (95% confidence): ${perThousand(point.upper_bound)}.`,
  ];
  if (point.true_positive_rate !== null) {
    sentences.push(`Of clips that long that it did make, it found ${percent(point.true_positive_rate)}.`);
  }
  return [...sentences, others];
}

function perThousand(rate) {
  const clips = 1000 * rate;
  if (clips >= 1) return `${Number(clips.toPrecision(2))} false alarms in 1,000 clips`;
  return `1 false alarm in ${Number((1 / rate).toPrecision(2)).toLocaleString("en")} clips`;
}

/** What may not be read into the verdict. */
export function caveats({ verdict: said, operating_point: point }) {
  const missed = point && point.true_positive_rate !== null && point.true_positive_rate < 1;
  const last = {
    partly: "And for the seconds that are not marked above, “no evidence” is all that is said.",
    made_by_this_system: "",
  };
  return [
    "Not that a person made the sound, or that it is real. This service knows its own work only; what any other " +
      "system makes looks to it like everything else.",
    `Not that this system did not make it. Heavy noise, short cuts and re-recording remove traces${
      missed ? `, and the classifier alone misses ${percent(1 - point.true_positive_rate)} of clips this long` : ""
    }.`,
    last[said] ?? "And nothing about other copies: a better one of the same sound may still carry what this one has lost.",
  ].filter(Boolean);
}
