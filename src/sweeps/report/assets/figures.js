// The figures, drawn as SVG. Each mark stands for runs (see `stand`), so that all of them light up and fade together.

const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const known = data.settings.map(setting => setting.mean).filter(value => value !== null);
const lowest = Math.min(...known), highest = Math.max(...known);

// How good a value is among the settings, from 0 to 1, and the colour for it.
function quality(value) {
  const share = highest > lowest ? Math.min(1, Math.max(0, (value - lowest) / (highest - lowest))) : 0.5;
  return data.metric.mode === "max" ? share : 1 - share;
}
function shade(share) {
  const at = share * (VIRIDIS.length - 1), k = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[k].map((from, c) => Math.round(from + (at - k) * (VIRIDIS[k + 1][c] - from)))})`;
}

function colourBar() {
  const bar = html("span", { class: "key" }), strip = html("i");
  strip.style.cssText = `width: 9rem; background: linear-gradient(to right, ${VIRIDIS.map(rgb => `rgb(${rgb})`)})`;
  const [worst, best] = data.metric.mode === "max" ? [lowest, highest] : [highest, lowest];
  bar.append(`${exact(worst)} `, strip, exact(best));
  return bar;
}

// Places along an axis, from 0 to 1, with ticks; numbers that span more than a decade or so on a logarithmic axis.
function scaleOf(values, canBeLog = true) {
  const low = Math.min(...values), high = Math.max(...values);
  if (!values.length || low === high) return { at: () => 0.5, ticks: values.length ? [low] : [] };
  if (canBeLog && low > 0 && high / low > 20) {
    const ticks = [];
    const decades = Math.log10(high / low);
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const digit of decades > 3 ? [1] : [1, 2, 5]) ticks.push(+(digit * 10 ** power).toPrecision(3));
    return { at: value => Math.log(value / low) / Math.log(high / low), ticks: ticks.filter(tick => tick >= low && tick <= high), log: true };
  }
  const rough = (high - low) / 5, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * size).find(step => step >= 0.7 * rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push(+(k * step).toPrecision(12));
  return { at: value => (value - low) / (high - low), ticks };
}

function caption(id, title, faint = "") {
  const place = $(id).querySelector("figcaption");
  place.replaceChildren(html("span", {}, title), html("span", { class: "faint" }, faint));
  return place;
}

function groupKeys(place) {
  if (groups.length < 2) return;
  groups.forEach((group, k) => {
    const key = html("span", { class: "key" });
    const swatch = html("i");
    swatch.style.background = `var(--g${k % 8})`;
    key.append(swatch, clip(group));
    place.append(key);
  });
}

// A frame with two axes; gives back functions from values to pixels, and where to draw.
function frame(id, xs, ys, xName, yName, options = {}) {
  const width = 560, height = 320, left = 58, bottom = 42, right = 14, top = 12;
  const x = scaleOf(xs, options.logX !== false), y = scaleOf(ys, options.logY === true);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${yName} against ${xName}` });
  const across = value => left + 6 + x.at(value) * (width - left - right - 12);
  const up = value => height - bottom - 6 - y.at(value) * (height - bottom - top - 12);
  for (const tick of x.ticks) {
    picture.append(svg("line", { class: "rule", x1: across(tick), x2: across(tick), y1: top, y2: height - bottom }));
    picture.append(svg("text", { class: "tick", x: across(tick), y: height - bottom + 15, "text-anchor": "middle" }, format(tick)));
  }
  for (const tick of y.ticks) {
    picture.append(svg("line", { class: "rule", x1: left, x2: width - right, y1: up(tick), y2: up(tick) }));
    picture.append(svg("text", { class: "tick", x: left - 6, y: up(tick) + 4, "text-anchor": "end" }, format(tick)));
  }
  const middle = (top + height - bottom) / 2;
  picture.append(svg("text", { class: "label", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xName + (x.log ? " (log)" : "")));
  picture.append(svg("text", { class: "label", x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }, yName + (y.log ? " (log)" : "")));
  place(id, picture);
  const layer = svg("g");
  picture.append(layer);
  return { picture, layer, across, up, left, right: width - right };
}

// Put a picture into its figure; what the old one held stands for nothing any more.
function place(id, picture) {
  const old = $(id).querySelector("svg");
  if (old) {
    for (let k = marks.length - 1; k >= 0; k--) if (old.contains(marks[k].element)) marks.splice(k, 1);
    old.remove();
  }
  $(id).append(picture);
}

function nothing(picture, text) {
  picture.append(svg("text", { class: "label", x: "50%", y: "45%", "text-anchor": "middle" }, text));
}

function drawHeat() {
  const { x, y, xs, ys, facet, panels, values, settings } = data.heat;
  caption("heat", y || x ? `${[y, x].filter(Boolean).join(" × ")}${facet ? ` per ${facet}` : ""}` : "heat map",
    `${data.metric.name}: mean over seeds, of the best setting where several share a cell`).append(known.length ? colourBar() : "no value yet");
  const letters = Math.max(...xs.map(text => clip(text).length)), tall = 30, wide = Math.max(54, letters * 7 + 8);
  const left = 18 + Math.max(...ys.map(text => clip(text).length), y.length) * 7, gap = 26, panelWidth = left + wide * xs.length;
  const picture = svg("svg", { width: panels.length * (panelWidth + gap), height: 46 + tall * ys.length + 22, role: "img", "aria-label": "heat map" });
  panels.forEach((name, p) => {
    const from = p * (panelWidth + gap) + left;
    picture.append(svg("text", { x: from, y: 14, "font-weight": 600 }, clip(name, Math.max(6, Math.floor(wide * xs.length / 7)))));
    ys.forEach((label, k) => picture.append(svg("text", { class: "tick", x: from - 6, y: 24 + (ys.length - k - 0.5) * tall + 4, "text-anchor": "end" }, clip(label))));
    xs.forEach((label, k) => picture.append(svg("text", { class: "tick", x: from + (k + 0.5) * wide, y: 38 + ys.length * tall, "text-anchor": "middle" }, clip(label))));
    picture.append(svg("text", { class: "label", x: from + wide * xs.length / 2, y: 55 + ys.length * tall, "text-anchor": "middle" }, x));
    if (y) picture.append(svg("text", { class: "label", x: from - 6, y: 14, "text-anchor": "end" }, y));
    ys.forEach((_, row) => xs.forEach((_, column) => {
      const value = values[p][row][column], here = settings[p][row][column];
      if (!here.length) return;
      const cell = svg("g", { class: "mark cell" });
      const box = { x: from + column * wide + 1, y: 25 + (ys.length - 1 - row) * tall, width: wide - 2, height: tall - 2, rx: 3 };
      cell.append(svg("rect", { ...box, style: `fill: ${value === null ? "var(--none)" : shade(quality(value))}` }));
      const ink = value === null ? "var(--ink)" : quality(value) > 0.55 ? "#000" : "#fff";
      cell.append(svg("text", { x: box.x + box.width / 2, y: box.y + tall / 2 + 3, "text-anchor": "middle", style: `fill: ${ink}` }, value === null ? "–" : format(+value.toPrecision(3))));
      const tip = () => here.map(k => {
        const setting = data.settings[k];
        const spread = setting.std === null ? "" : ` ± ${format(+setting.std.toPrecision(2))}`;
        return `${settingOf(k)}\n${format(setting.mean)}${spread}, ${setting.state}`;
      }).slice(0, 6).join("\n");
      picture.append(stand(cell, here.flatMap(k => runsOf[k]), tip));
    }));
  });
  place("heat", picture);
}

// The F1 of each class by each of the best settings; no figure where the runs have none.
function drawClasses() {
  if (!data.classes) return $("classes").remove();
  const { names, settings, values, classes } = data.classes;
  const wide = 68, tall = 26, top = 26;
  const labelOf = k => clip(settingOf(k), 48), left = 12 + Math.max(4, ...settings.map(k => labelOf(k).length)) * 7;
  const picture = svg("svg", { width: left + wide * names.length + 8, height: top + tall * settings.length + 8, role: "img", "aria-label": "F1 of each class" });
  caption("classes", "F1 of each class", names.length < classes ? `the ${names.length} of ${classes} that are told worst` : "the best settings, mean over seeds");
  names.forEach((name, c) => picture.append(svg("text", { class: "tick", x: left + (c + 0.5) * wide, y: 16, "text-anchor": "middle" }, clip(name, 9))));
  settings.forEach((setting, row) => {
    const middle = top + (row + 0.5) * tall + 4;
    picture.append(svg("text", { class: "tick", x: left - 6, y: middle, "text-anchor": "end" }, labelOf(setting)));
    values[row].forEach((value, c) => {
      const cell = svg("g", { class: "mark cell" });
      cell.append(svg("rect", { x: left + c * wide + 1, y: top + row * tall + 1, width: wide - 2, height: tall - 2, rx: 3, style: `fill: ${value === null ? "var(--none)" : shade(value)}` }));
      const ink = value === null ? "var(--ink)" : value > 0.55 ? "#000" : "#fff";
      cell.append(svg("text", { x: left + (c + 0.5) * wide, y: middle, "text-anchor": "middle", style: `fill: ${ink}` }, value === null ? "–" : value.toFixed(3)));
      picture.append(stand(cell, runsOf[setting], () => `${names[c]}: F1 ${format(value)}\n${settingOf(setting)}`));
    });
  });
  place("classes", picture);
}

const curveChoice = { name: Object.keys(data.curves)[0], over: 0 };
function drawCurves() {
  const legend = caption("curves", "curves");
  const overs = ["step", "seconds"];
  const select = (names, chosen, label, change) => {
    const element = html("select", { "aria-label": label });
    names.forEach(name => element.append(new Option(name, name, false, name === chosen)));
    element.onchange = () => { change(element.value); drawCurves(); repaint(); };
    return element;
  };
  const { name, over } = curveChoice;
  const lines = (data.curves[name] || []).map((curve, index) => ({ index, xs: curve[over], ys: curve[2] })).filter(line => line.xs.length);
  if (name) legend.append(select(Object.keys(data.curves), name, "metric", value => { curveChoice.name = value; }), "over",
    select(overs, overs[over], "over", value => { curveChoice.over = overs.indexOf(value); }));
  groupKeys(legend);
  const { layer, picture, across, up } = frame("curves", lines.flatMap(line => line.xs), lines.flatMap(line => line.ys), overs[over], name || "", { logX: false, logY: true });
  if (!lines.length) nothing(picture, "no metric yet");
  for (const { index, xs, ys } of lines) {
    const points = xs.map((x, k) => `${across(x).toFixed(1)},${up(ys[k]).toFixed(1)}`);
    const colour = colourOf(data.runs[index]);
    const mark = points.length > 1 ? svg("polyline", { class: "mark line", points: points.join(" "), style: `stroke: ${colour}` })
      : svg("circle", { class: "mark dot", cx: across(xs[0]), cy: up(ys[0]), r: 3, style: `fill: ${colour}` });
    layer.append(stand(mark, [index], () => `${describe(index)}\nlast ${name} ${format(ys.at(-1))} at ${overs[over]} ${format(xs.at(-1))}`));
  }
}

function drawCost(id, name, title, unit) {
  groupKeys(caption(id, `${data.metric.name} against ${title}`, "hollow: not DONE"));
  const points = everyRun.filter(index => data.runs[index].value !== null && data.runs[index][name] !== null);
  const values = points.map(index => data.runs[index].value);
  if (data.baseline !== null && values.length) values.push(data.baseline);
  const { layer, picture, across, up, left, right } = frame(id, points.map(index => data.runs[index][name]), values, unit, data.metric.name, { logY: true });
  if (!points.length) nothing(picture, "no run has both yet");
  else if (data.baseline !== null) {
    layer.append(svg("line", { x1: left, x2: right, y1: up(data.baseline), y2: up(data.baseline), "stroke-dasharray": "5 4", style: "stroke: var(--faint)" }));
    layer.append(svg("text", { class: "tick", x: right - 4, y: up(data.baseline) - 5, "text-anchor": "end" }, "trivial baseline"));
  }
  for (const index of points) {
    const run = data.runs[index], colour = colourOf(run);
    const style = run.state === "DONE" ? `fill: ${colour}; fill-opacity: .8` : `fill: transparent; stroke: ${colour}; stroke-width: 1.5`;
    layer.append(stand(svg("circle", { class: "mark dot", cx: across(run[name]).toFixed(1), cy: up(run.value).toFixed(1), r: 4.5, style }), [index], () => describe(index)));
  }
}

const brushes = new Map(); // axis -> [from, to], as places from 0 (bottom) to 1
function parallelAxes() {
  const axes = data.choices.map((name, k) => ({ name, of: run => run.choices[k] }));
  axes.push({ name: "params", of: run => run.params }, { name: "seconds", of: run => run.seconds }, { name: data.metric.name, of: run => run.value });
  return axes.map(axis => {
    const values = [...new Set(data.runs.map(axis.of))].filter(value => value !== null);
    if (values.every(value => typeof value === "number") && values.length > 8) {
      const scale = scaleOf(values, axis.name !== data.metric.name);
      return { ...axis, at: value => value === null ? null : scale.at(value), ticks: scale.ticks.map(tick => [scale.at(tick), format(tick)]) };
    }
    values.sort(compareCells);
    const at = value => value === null ? null : values.length > 1 ? values.indexOf(value) / (values.length - 1) : 0.5;
    const labelled = values.length > 16 ? values.filter((_, k) => k % Math.ceil(values.length / 16) === 0) : values;
    return { ...axis, at, ticks: labelled.map(value => [at(value), clip(format(value), 14)]) };
  });
}

function drawParallel() {
  caption("parallel", "parallel coordinates", "drag along an axis to keep what crosses there; click it to let go");
  const axes = parallelAxes(), top = 34, height = 320, bottom = height - 16;
  const width = Math.max(560, 30 + axes.length * 84), space = (width - 100) / Math.max(1, axes.length - 1);
  const across = k => 36 + k * space, up = share => bottom - share * (bottom - top);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "parallel coordinates" });
  place("parallel", picture);
  const lines = svg("g");
  picture.append(lines);
  for (const index of everyRun) {
    const run = data.runs[index], places = axes.map(axis => axis.at(axis.of(run)));
    const points = places.map((share, k) => share === null ? null : `${across(k).toFixed(1)},${up(share).toFixed(1)}`).filter(Boolean);
    const colour = run.value === null ? "var(--faint)" : shade(run.value);
    if (points.length > 1) lines.append(stand(svg("polyline", { class: "mark line", points: points.join(" "), style: `stroke: ${colour}` }), [index], () => describe(index)));
  }
  axes.forEach((axis, k) => {
    picture.append(svg("line", { x1: across(k), x2: across(k), y1: top, y2: bottom, style: "stroke: var(--faint)" }));
    picture.append(svg("text", { x: across(k), y: k % 2 ? 26 : 12, "text-anchor": "middle", "font-weight": 600 }, axis.name));
    for (const [share, label] of axis.ticks) picture.append(svg("text", { class: "tick", x: across(k) + 5, y: up(share) + 4, style: "paint-order: stroke; stroke: var(--panel); stroke-width: 3px" }, label));
    const brush = svg("rect", { class: "brush", x: across(k) - 7, width: 14, visibility: "hidden" });
    const grip = svg("rect", { class: "grip", x: across(k) - 10, y: top - 8, width: 20, height: bottom - top + 16, "data-axis": axis.name });
    const show = () => {
      const [from, to] = brushes.get(k);
      brush.setAttribute("y", up(to));
      brush.setAttribute("height", up(from) - up(to));
      brush.setAttribute("visibility", "visible");
    };
    if (brushes.has(k)) show();
    picture.append(grip, brush);
    listenToBrush(grip, k, event => {
      const box = picture.getBoundingClientRect();
      return Math.min(1.02, Math.max(-0.02, (bottom - (event.clientY - box.top) * height / box.height) / (bottom - top)));
    }, axis, show, () => brush.setAttribute("visibility", "hidden"));
  });
  repaint();
}

function listenToBrush(grip, k, shareAt, axis, show, hide) {
  let from = null;
  const forget = () => { brushes.delete(k); hide(); setFilter(`brush ${k}`, null); };
  grip.addEventListener("pointerdown", event => { from = shareAt(event); grip.setPointerCapture(event.pointerId); event.preventDefault(); });
  grip.addEventListener("pointermove", event => {
    if (from === null || Math.abs(shareAt(event) - from) < 0.02) return;
    const range = [from, shareAt(event)].sort((a, b) => a - b);
    brushes.set(k, range);
    show();
    setFilter(`brush ${k}`, index => {
      const share = axis.at(axis.of(data.runs[index]));
      return share !== null && share >= range[0] && share <= range[1];
    });
  });
  grip.addEventListener("pointerup", event => {
    if (from !== null && Math.abs(shareAt(event) - from) < 0.02) forget();
    from = null;
  });
}

drawTable();
drawHeat();
drawCurves();
drawCost("params", "params", "parameters", "parameters");
drawCost("seconds", "seconds", "time", "seconds of training");
drawParallel();
drawClasses();
setFilter("words", null);
