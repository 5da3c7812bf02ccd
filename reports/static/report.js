// Sorting, filters, columns and pairs of the pages; without it they read the same. State lives in the address.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const state = new URLSearchParams(location.hash.replace(/^#/, ""));

function remember(key, value) {
  if (value) state.set(key, value);
  else state.delete(key);
  const text = state.toString();
  history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, title) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (title !== undefined) {
    const tip = document.createElementNS(SVG, "title");
    tip.textContent = title;
    made.append(tip);
  }
  return made;
}

// --- sorting

function sortValue(cell) {
  const text = cell ? cell.dataset.value ?? cell.textContent.trim() : "";
  const number = Number(text.replace(/,/g, "").replace("−", "-"));
  return text === "" || Number.isNaN(number) ? text.toLowerCase() : number;
}

function compareValues(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

function sortTable(table, column, descending) {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => ({ row, value: sortValue(row.cells[column]) }));
  const isHole = (value) => typeof value === "string" && /^(·|–|failed|unknown|)$/.test(value);
  keyed.sort((a, b) => {
    if (isHole(a.value) !== isHole(b.value)) return isHole(a.value) ? 1 : -1;
    return descending ? compareValues(b.value, a.value) : compareValues(a.value, b.value);
  });
  body.append(...keyed.map((item) => item.row));
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function makeSortable(table, number) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = element("button", { type: "button" });
    const link = head.querySelector("a");
    if (link) {
      button.textContent = "⇅";
      button.setAttribute("aria-label", "Sort by " + link.textContent);
      head.append(" ", button);
    } else {
      button.append(...head.childNodes);
      head.append(button);
    }
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const descending = now ? now === "ascending" : head.classList.contains("n") && head.textContent !== "Rank";
      sortTable(table, column, descending);
      remember("sort" + number, (descending ? "-" : "") + column);
    });
  });
  const kept = state.get("sort" + number);
  const column = Math.abs(parseInt(kept, 10));
  if (kept && column < table.tHead.rows[0].cells.length) sortTable(table, column, kept.startsWith("-"));
}

// --- filters and columns

function matches(row, family, wanted) {
  const text = (row.textContent + " " + family).toLowerCase();
  return (
    wanted.q.every((word) => text.includes(word)) &&
    (!wanted.backbone || row.dataset.backbone === wanted.backbone) &&
    (!wanted.size || row.dataset.size === wanted.size) &&
    (!wanted.family || family === wanted.family) &&
    (!wanted.inductive || "inductive" in row.dataset)
  );
}

function applyFilters(form) {
  const data = new FormData(form);
  const get = (name) => (data.get(name) || "").trim();
  const wanted = { q: get("q").toLowerCase().split(/\s+/).filter(Boolean) };
  for (const name of ["backbone", "size", "family", "inductive"]) wanted[name] = get(name);
  let shown = 0;
  let all = 0;
  for (const section of document.querySelectorAll("section[data-family]")) {
    let here = 0;
    for (const row of section.querySelectorAll("tbody tr")) {
      row.hidden = !matches(row, section.dataset.family, wanted);
      here += !row.hidden;
      all += 1;
    }
    section.hidden = here === 0;
    shown += here;
  }
  document.body.classList.toggle("show-published", Boolean(get("published")));
  form.querySelector("[data-shown]").textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
  for (const field of form.elements) {
    if (field.name) remember(field.name, field.type === "checkbox" ? (field.checked ? "1" : "") : field.value.trim());
  }
}

function hideColumn(name, hidden) {
  for (const table of document.querySelectorAll("section[data-family] table")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.dataset.name !== name) return;
      for (const row of table.rows) if (row.cells[column]) row.cells[column].hidden = hidden;
    });
  }
}

function makeChooser(place) {
  const names = new Set();
  for (const head of document.querySelectorAll("section[data-family] thead th")) {
    head.dataset.name = head.textContent.trim();
    if (head.dataset.name !== "Method") names.add(head.dataset.name);
  }
  const hidden = new Set((state.get("hide") || "").split("|").filter(Boolean));
  for (const name of names) {
    const box = element("input", { type: "checkbox" });
    box.checked = !hidden.has(name);
    if (hidden.has(name)) hideColumn(name, true);
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(name);
      else hidden.add(name);
      hideColumn(name, !box.checked);
      remember("hide", [...hidden].join("|"));
    });
    place.append(element("label", {}, box, " " + name));
  }
  return () => {
    hidden.clear();
    for (const name of names) hideColumn(name, false);
    for (const box of place.querySelectorAll("input")) box.checked = true;
    remember("hide", "");
  };
}

function makeControls(form) {
  const showAll = makeChooser(form.querySelector("[data-chooser]"));
  for (const field of form.elements) {
    if (!field.name || !state.has(field.name)) continue;
    if (field.type === "checkbox") field.checked = true;
    else field.value = state.get(field.name);
  }
  form.addEventListener("input", () => applyFilters(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { showAll(); applyFilters(form); }));
  applyFilters(form);
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      form.elements.q.focus();
    } else if (event.key === "Escape" && event.target === form.elements.q) {
      form.elements.q.value = "";
      applyFilters(form);
    }
  });
}

// --- pairs: the counts of a setting come as a script, since a page on disk may not fetch

let counts = null;
const waiting = [];

globalThis.fsbench = {
  counts(data) {
    counts = data;
    while (waiting.length) waiting.pop()();
  },
};

function withCounts(action) {
  if (counts) return action();
  waiting.push(action);
  if (waiting.length === 1) document.head.append(element("script", { src: document.body.dataset.counts }));
}

function accuracies(i) {
  const { counts: text, steps } = counts.rows[i];
  return Array.from(text, (character) => (character.charCodeAt(0) - 61) / steps); // "=" is none
}

function axes(svg, name, low, high, ends) {
  svg.append(drawn("line", { x1: 30, y1: 200, x2: 230, y2: 200 }), drawn("line", { x1: 30, y1: 0, x2: 30, y2: 200 }));
  const write = (x, y, anchor, text) => {
    const made = drawn("text", { x, y, "text-anchor": anchor });
    made.textContent = text;
    svg.append(made);
  };
  write(30, 211, "start", low);
  write(230, 211, "end", high);
  write(130, 222, "middle", name);
  if (ends) {
    write(27, 200, "end", ends[0]);
    write(27, 8, "end", ends[1]);
  }
}

function scatter(a, b, names) {
  const groups = new Map();
  a.forEach((value, k) => {
    const key = value + "/" + b[k];
    groups.set(key, (groups.get(key) || 0) + 1);
  });
  const low = Math.floor(10 * Math.min(...a, ...b)) / 10;
  const high = Math.ceil(10 * Math.max(...a, ...b)) / 10;
  const place = (value) => (200 * (value - low)) / (high - low || 1);
  const svg = drawn("svg", { viewBox: "-4 -4 240 230", role: "img", "aria-label": "Accuracy of both on each episode" });
  svg.append(drawn("line", { x1: 30, y1: 200, x2: 230, y2: 0, "stroke-dasharray": 3 }));
  const most = Math.max(...groups.values());
  for (const [key, n] of groups) {
    const [x, y] = key.split("/").map(Number);
    const mark = { cx: (30 + place(x)).toFixed(1), cy: (200 - place(y)).toFixed(1), r: (1 + 3 * Math.sqrt(n / most)).toFixed(1), opacity: 0.6 };
    svg.append(drawn("circle", mark, `${(100 * x).toFixed(1)}% and ${(100 * y).toFixed(1)}%: ${n} ${counts.unit}`));
  }
  const text = (value) => Math.round(100 * value) + "%";
  axes(svg, "→ " + names[0] + ", ↑ " + names[1], text(low), text(high), [text(low), text(high)]);
  return svg;
}

function histogram(difference, step) {
  const widest = Math.max(...difference.map(Math.abs), step);
  const width = Math.ceil((2 * widest) / 21 / step) * step; // whole steps, so that no bar holds more values than another
  const reach = Math.max(1, Math.round(widest / width));
  const bins = new Array(2 * reach + 1).fill(0);
  for (const d of difference) bins[Math.min(2 * reach, Math.max(0, Math.round(d / width) + reach))] += 1;
  const top = Math.max(...bins);
  const svg = drawn("svg", { viewBox: "-4 -4 240 230", role: "img", "aria-label": "Histogram of the differences" });
  bins.forEach((n, i) => {
    const centre = (100 * width * (i - reach)).toFixed(1);
    const box = { x: (30 + (200 * i) / bins.length).toFixed(1), y: (200 - (190 * n) / top).toFixed(1), width: (180 / bins.length).toFixed(1), height: ((190 * n) / top).toFixed(1) };
    svg.append(drawn("rect", box, `about ${centre} points: ${n} ${counts.unit}`));
  });
  svg.append(drawn("line", { x1: 130, y1: 0, x2: 130, y2: 200, "stroke-dasharray": 3 }));
  const end = (100 * width * reach).toFixed(0);
  axes(svg, "difference, points", "−" + end, "+" + end, null);
  return svg;
}

function showPair(panel, i, j, cell) {
  const names = [counts.rows[i].name, counts.rows[j].name];
  const [a, b] = [accuracies(i), accuracies(j)];
  const difference = a.map((value, k) => value - b[k]);
  const [effect, p] = [cell.firstChild.textContent, cell.lastChild.textContent];
  const wins = difference.filter((d) => d > 1e-9).length;
  const losses = difference.filter((d) => d < -1e-9).length;
  const bound = (counts.bound[i][j - i - 1] / 100).toFixed(1);
  const some = counts.drawn < counts.episodes ? `the first ${counts.drawn} of ${counts.episodes} ${counts.unit}` : `all ${counts.drawn} ${counts.unit}`;
  panel.replaceChildren(
    element("h3", {}, `${names[0]} minus ${names[1]}`),
    element("p", {}, `${effect} points, ${p} among all pairs: ${counts.words[i][j - i - 1]}. The difference is surely below ${bound} points. ` +
      `Of ${some}: ${wins} won, ${losses} lost, ${difference.length - wins - losses} equal.`),
    element("div", {}, scatter(a, b, names), histogram(difference, 1 / Math.max(counts.rows[i].steps, counts.rows[j].steps))),
  );
  panel.hidden = false;
}

function makePairs(table) {
  const panel = document.querySelector("[data-pair]");
  const cells = [...table.tBodies[0].rows].map((row) =>
    [...row.querySelectorAll("td[class]")].map((place) => {
      const button = element("button", { type: "button" }, ...place.childNodes);
      place.append(button);
      return button;
    }),
  );
  const choose = (i, k) => {
    const cell = cells[i][k];
    for (const other of cells.flat()) other.setAttribute("aria-pressed", String(other === cell));
    remember("pair", `${i + 1}-${i + k + 2}`);
    withCounts(() => showPair(panel, i, i + k + 1, cell));
  };
  cells.forEach((row, i) => row.forEach((cell, k) => cell.addEventListener("click", () => choose(i, k))));
  const kept = /^(\d+)-(\d+)$/.exec(state.get("pair") || "");
  if (kept && cells[kept[1] - 1]?.[kept[2] - kept[1] - 1]) choose(kept[1] - 1, kept[2] - kept[1] - 1);
}

document.documentElement.classList.add("scripted");
for (const form of document.querySelectorAll("[data-controls]")) makeControls(form);
document.querySelectorAll("[data-sortable]").forEach(makeSortable);
for (const table of document.querySelectorAll("[data-pairs]")) makePairs(table);
