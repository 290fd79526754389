"use strict";
// What every part of the page shares: the data, which runs are shown and which are hot, the tip, and small helpers.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
document.querySelector("h1").textContent = document.title;

const groups = [...new Set(data.runs.map(run => run.group))];
const colourOf = run => `var(--g${groups.indexOf(run.group) % 8})`;
const stateColour = state => `var(--${state.replace(" ", "-")})`;
const everyRun = data.runs.map((_, index) => index);
const runsOf = data.settings.map(() => []);
data.runs.forEach((run, index) => runsOf[run.setting].push(index));

// Filters are functions from a run's index to a boolean, by name; a run is shown when all of them say so.
const filters = new Map();
let shown = new Set(everyRun), hot = new Set(), pinned = new Set();
const marks = []; // whatever stands for runs in a figure or a table: {element, runs}

function setFilter(name, filter) {
  if (filter) filters.set(name, filter); else filters.delete(name);
  shown = new Set(everyRun.filter(index => [...filters.values()].every(passes => passes(index))));
  $("clear").disabled = filters.size === 0;
  const settings = data.settings.filter((_, k) => runsOf[k].some(index => shown.has(index))).length;
  $("count").textContent = `${shown.size} of ${everyRun.length} runs, ${settings} of ${data.settings.length} settings`;
  repaint();
}

function repaint() {
  for (const { element, runs } of marks) {
    const visible = runs.some(index => shown.has(index));
    element.classList.toggle("dim", !visible);
    if (element.tagName === "TR") element.hidden = !visible;
    element.classList.toggle("hot", visible && runs.some(index => hot.has(index) || pinned.has(index)));
    element.classList.toggle("pinned", runs.some(index => pinned.has(index)));
  }
}

// Make an element stand for runs: pointing at it lights them up everywhere, a click keeps them lit.
function stand(element, runs, tip) {
  marks.push({ element, runs });
  element.addEventListener("pointerenter", event => {
    hot = new Set(runs);
    // Lines cross: the hot one lies on top. Moving one that is there already would make a click on it go nowhere.
    if (element.ownerSVGElement && element.nextElementSibling) element.parentNode.append(element);
    if (tip) showTip(tip(), event);
    repaint();
  });
  element.addEventListener("pointermove", event => tip && showTip(tip(), event));
  element.addEventListener("pointerleave", () => { hot = new Set(); $("tip").hidden = true; repaint(); });
  element.addEventListener("click", () => {
    const all = runs.every(index => pinned.has(index));
    runs.forEach(index => all ? pinned.delete(index) : pinned.add(index));
    repaint();
  });
  return element;
}

function showTip(text, event) {
  const tip = $("tip");
  tip.textContent = text;
  tip.hidden = false;
  const left = event.clientX + 14 + tip.offsetWidth > innerWidth ? event.clientX - tip.offsetWidth - 14 : event.clientX + 14;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 4))}px`;
}

function format(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return value;
  if (Number.isInteger(value)) return Math.abs(value) >= 1e4 ? value.toLocaleString("en") : String(value);
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e6 ? String(+value.toPrecision(3)) : size >= 1000 ? Math.round(value).toLocaleString("en")
    : String(+value.toPrecision(4));
}

const clip = (text, most = 22) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
// A value of the ranking metric: as many decimals for all, so that a column of them lines up.
const exact = value => typeof value === "number" && Math.abs(value) < 1000 ? value.toFixed(4) : format(value);

function describe(index) {
  const run = data.runs[index];
  const lines = [run.name, run.state + (run.reason ? `: ${run.reason}` : "")];
  lines.push(`${data.metric.name} ${format(run.value)}` + (run.epoch === null ? "" : ` in epoch ${format(run.epoch)}`));
  data.choices.forEach((name, k) => lines.push(`${name} ${format(run.choices[k])}`));
  lines.push(`seed ${format(run.seed)}`, `${format(run.params)} parameters, ${format(run.seconds)} s`);
  return lines.join("\n");
}

const settingOf = k => data.choices.map((name, c) => `${name} ${format(data.settings[k].choices[c])}`).join(", ");

function html(name, attributes = {}, text = "") {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function svg(name, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== "") element.textContent = text;
  return element;
}
