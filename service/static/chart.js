// The probability of each window on the timeline of a clip, and below it the seconds that each layer speaks of.
//
// An image to screen readers, with its gist as text; the same numbers are in a table beside it.

import { clock } from "./sound.js";
import { LAYERS, likelihood } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120];
const MOST_TICKS = 8; // which a phone has room for

/** Draw the answer of /detect into `container`. Returns `move(seconds)`, which moves the playhead. */
export function drawChart(container, answer) {
  const { seconds, timeline } = answer;
  const at = (time) => `${(100 * time) / seconds}%`;
  const parts = [];
  if (timeline.length) {
    const plot = element("div", "plot");
    plot.append(curve(timeline, seconds), level("100%", 0), level("50%", 0.5), level("0", 1));
    parts.push(plot);
  }
  parts.push(...lanes(answer, at), axis(seconds, at));
  const playhead = element("div", "playhead");
  container.replaceChildren(...parts, playhead);
  container.setAttribute("aria-label", gist(answer));
  return (time) => (playhead.style.left = at(Math.min(time, seconds)));
}

/** The probability of the window whose middle is nearest to `time`; null without windows. */
export function windowAt(timeline, time) {
  const middle = ({ start, end }) => Math.abs((start + end) / 2 - time);
  return timeline.reduce((best, window) => (best && middle(best) <= middle(window) ? best : window), null);
}

function curve(timeline, seconds) {
  const points = timeline.map(({ start, end, probability }) => [(start + end) / 2, probability]);
  const [first, last] = [points[0], points.at(-1)];
  const line = [[0, first[1]], ...points, [seconds, last[1]]].map(([x, y]) => `${(1000 * x) / seconds} ${100 * (1 - y)}`);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 1000 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true"); // what it shows is the label of the chart
  for (const [name, d] of [
    ["half", "M0 50H1000"],
    ["area", `M0 100L${line.join("L")}L1000 100Z`],
    ["line", `M${line.join("L")}`],
  ]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

function level(text, fromTop) {
  const label = element("span", "level", text);
  label.style.top = `${100 * fromTop}%`;
  return label;
}

/** One lane per layer that names seconds. */
function lanes({ segments, watermark, ledger }, at) {
  const said = {
    ledger: ledger?.segments ?? [],
    watermark: watermark?.present ? watermark.segments : [],
    classifier: segments.filter(({ evidence }) => evidence.includes("classifier")),
  };
  return Object.entries(said)
    .filter(([, parts]) => parts.length)
    .map(([layer, parts]) => {
      const lane = element("div", "lane");
      lane.append(element("span", "lane-name", LAYERS[layer]));
      for (const { start, end } of parts) {
        const bar = element("i", layer);
        bar.style.left = at(start);
        bar.style.width = at(end - start);
        lane.append(bar);
      }
      return lane;
    });
}

function axis(seconds, at) {
  const step = STEPS.find((size) => seconds / size <= MOST_TICKS) ?? STEPS.at(-1);
  const row = element("div", "axis");
  for (let time = step; time < seconds - step / 4; time += step) {
    const tick = element("span", "", clock(time).replace(/\.0$/, ""));
    tick.style.left = at(time);
    row.append(tick);
  }
  return row;
}

function gist({ timeline, segments }) {
  const parts = segments.map(({ start, end }) => `${clock(start)} to ${clock(end)}`).join(", ");
  const made = parts ? `Made by this system: ${parts}.` : "No seconds are marked as made by this system.";
  if (!timeline.length) return made;
  const all = timeline.map(({ probability }) => probability);
  const range = `from ${likelihood(Math.min(...all))} to ${likelihood(Math.max(...all))}`;
  return `Probability that this system made it, in ${all.length} windows: ${range}. ${made}`;
}

function element(tag, name, text = "") {
  return Object.assign(document.createElement(tag), { className: name, textContent: text });
}
