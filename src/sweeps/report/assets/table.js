// The table: one row a setting or a run, sorted by a click on a column's head, filtered by words and by state.

const choiceColumns = () => data.choices.map((name, k) => ({ name, of: row => row.choices[k] }));
const measure = (name, key = name, show = format) => ({ name, of: row => row[key], number: true, show });
const stateColumn = { name: "state", of: row => row.state };
const views = {
  "by-setting": {
    rows: data.settings.map((setting, k) => ({ ...setting, rank: k + 1, members: runsOf[k] })),
    columns: [measure("rank"), ...choiceColumns(), stateColumn, 
      ...["mean", "std", "lowest", "highest"].map(name => measure(name, name, exact)), ...["epoch", "params", "seconds"].map(name => measure(name))],
  },
  "by-run": {
    rows: data.runs.map((run, k) => ({ ...run, rank: run.setting + 1, members: [k] })),
    columns: [measure("rank"), { name: "run", of: row => row.name }, ...choiceColumns(), measure("seed"), stateColumn,
      { name: "reason", of: row => row.reason }, measure(data.metric.name, "value", exact),
      ...["epoch", "params", "seconds"].map(name => measure(name))],
  },
};
let view = "by-setting";
const sorting = { column: 0, up: true };

function compareCells(one, other) {
  const missing = (one === null) - (other === null);
  if (missing || one === null) return missing;
  return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
}

function drawTable() {
  const { rows, columns } = views[view];
  const { of } = columns[sorting.column];
  const empty = row => of(row) === null;
  const sorted = [...rows].sort((a, b) => (empty(a) - empty(b)) || (sorting.up ? 1 : -1) * compareCells(of(a), of(b)));
  for (let k = marks.length - 1; k >= 0; k--) if (marks[k].element.tagName === "TR") marks.splice(k, 1);
  const head = html("tr");
  columns.forEach((column, k) => {
    const by = k === sorting.column;
    const cell = html("th", { scope: "col", class: column.number ? "number" : "" });
    if (by) cell.setAttribute("aria-sort", sorting.up ? "ascending" : "descending");
    const button = html("button", {}, column.name + (by ? (sorting.up ? " ▲" : " ▼") : ""));
    button.onclick = () => {
      const better = data.metric.mode === "max" && ["mean", "lowest", "highest", data.metric.name].includes(column.name);
      sorting.up = by ? !sorting.up : !better; // the first click shows the best at the top
      sorting.column = k;
      drawTable();
    };
    cell.append(button);
    head.append(cell);
  });
  $("table").tHead.replaceChildren(head);
  $("table").tBodies[0].replaceChildren(...sorted.map(row => {
    const line = html("tr");
    for (const column of columns) {
      const cell = html("td", { class: column.number || typeof column.of(row) === "number" ? "number" : "" }, (column.show || format)(column.of(row)));
      if (column.name === "state") cell.style.color = stateColour(data.states.find(state => row.state.includes(state)) || "DONE");
      line.append(cell);
    }
    return stand(line, row.members);
  }));
  const box = $("table").parentNode;
  box.style.minHeight = ""; // rows that a filter hides must not move the figures, least of all under a brush
  box.style.minHeight = `${box.offsetHeight}px`;
  repaint();
}

// "gru depth>1 lr<=0.003": words are looked for in everything a run says of itself, comparisons in the column they name.
const searched = data.runs.map((run, k) => describe(k).toLowerCase());
function matcher(word) {
  const [, name, sign, value] = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/) || [];
  const column = name && views["by-run"].columns.find(column => column.name.toLowerCase() === name);
  if (!column) return index => searched[index].includes(word);
  const wanted = Number(value);
  return index => {
    const found = column.of(views["by-run"].rows[index]);
    if (sign === "=") return found !== null && (String(found).toLowerCase() === value || found === wanted);
    if (typeof found !== "number" || Number.isNaN(wanted)) return false;
    return sign[0] === "<" ? found < wanted || (sign === "<=" && found === wanted) : found > wanted || (sign === ">=" && found === wanted);
  };
}

function filterByWords() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean).map(matcher);
  setFilter("words", words.length ? index => words.every(passes => passes(index)) : null);
}

const wantedStates = new Set();
for (const state of data.states) {
  const count = data.runs.filter(run => run.state === state).length;
  if (!count) continue;
  const button = html("button", { "aria-pressed": "true", "data-state": state }, `${count} ${state}`);
  button.style.color = stateColour(state);
  wantedStates.add(state);
  button.onclick = () => {
    if (!wantedStates.delete(state)) wantedStates.add(state);
    button.setAttribute("aria-pressed", wantedStates.has(state));
    const all = $("states").childElementCount === wantedStates.size;
    setFilter("states", all ? null : index => wantedStates.has(data.runs[index].state));
  };
  $("states").append(button);
}

for (const name of Object.keys(views)) {
  $(name).onclick = () => {
    view = name;
    Object.assign(sorting, { column: 0, up: true });
    for (const other of Object.keys(views)) $(other).setAttribute("aria-pressed", other === name);
    drawTable();
  };
}
$("filter").oninput = filterByWords;
$("clear").onclick = () => {
  $("filter").value = "";
  for (const button of $("states").children) if (button.getAttribute("aria-pressed") === "false") button.click();
  for (const name of [...filters.keys()]) setFilter(name, null);
  drawParallel();
};
