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

// --- sorting: the bodies of a table are its groups; what is folded moves with its first row

function sortValue(cell) {
  const text = cell ? cell.dataset.value ?? cell.textContent.trim() : "";
  const number = cell && cell.classList.contains("n") && !cell.dataset.value ? parseFloat(text.replace(/,/g, "").replace("−", "-")) : Number(text.replace(/,/g, ""));
  return text === "" || Number.isNaN(number) ? text.toLowerCase() : number;
}

function compareValues(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

const heads = (table) => [...table.tHead.rows[table.tHead.rows.length - 1].cells];

function sortTable(table, column, descending) {
  const isGrouped = table.tBodies.length > 1;
  const parts = isGrouped ? [...table.tBodies] : [...table.tBodies[0].rows];
  const keyed = parts.map((part) => ({ part, value: sortValue((isGrouped ? part.rows[0] : part).cells[column]) }));
  const isHole = (value) => typeof value === "string" && /^(·|–|failed|unknown|)$/.test(value);
  keyed.sort((a, b) => {
    if (isHole(a.value) !== isHole(b.value)) return isHole(a.value) ? 1 : -1;
    return descending ? compareValues(b.value, a.value) : compareValues(a.value, b.value);
  });
  (isGrouped ? table : table.tBodies[0]).append(...keyed.map((item) => item.part));
  heads(table).forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function makeSortable(table, number) {
  heads(table).forEach((head, column) => {
    const button = element("button", { type: "button" });
    const link = head.querySelector("a");
    if (link) {
      button.setAttribute("aria-label", "Sort by " + link.textContent);
      button.classList.add("sort");
      head.prepend(button);
    } else {
      button.append(...head.childNodes);
      head.append(button);
    }
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const descending = now ? now === "ascending" : head.classList.contains("n") && !head.dataset.upwards;
      sortTable(table, column, descending);
      remember("sort" + number, (descending ? "-" : "") + column);
    });
  });
  const kept = state.get("sort" + number);
  const column = Math.abs(parseInt(kept, 10));
  if (kept && column < heads(table).length) sortTable(table, column, kept.startsWith("-"));
}

// --- the overview: which rows and columns pass the filters, and which variants are unfolded

function makeOverview(form) {
  const table = document.querySelector("[data-kinds]");
  const kinds = JSON.parse(table.dataset.kinds); // backbone, input, trained, inductive, seeds
  const columns = heads(table).map((head, i) => ({ i, ...head.dataset })).filter((column) => column.family);
  const groups = [...table.tBodies].map((body) => ({
    body,
    fold: body.querySelector(".fold"),
    rows: [...body.rows].map((row) => ({ row, isVariant: row.classList.contains("variant"), text: row.textContent.toLowerCase(), cells: [...row.cells] })),
  }));
  const all = form.querySelector("[data-unfold]");
  const unfolded = new Set();

  function passes(wanted) {
    return kinds.map(([backbone, size, trained, inductive, seeds]) =>
      (!wanted.backbone || backbone === wanted.backbone) && (!wanted.size || String(size) === wanted.size) &&
      (!wanted.trained || trained === wanted.trained) && (!wanted.inductive || inductive) && (!wanted.seeds || seeds));
  }

  function apply() {
    const wanted = {};
    for (const field of form.elements) {
      if (field.name) wanted[field.name] = field.type === "checkbox" ? (field.checked ? "1" : "") : field.value.trim();
    }
    const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
    const kindPasses = passes(wanted);
    const asksCells = ["backbone", "size", "trained", "inductive", "seeds"].some((name) => wanted[name]);
    const narrows = asksCells || wanted.family || wanted.shot || words.length > 0;
    const shownColumns = new Set();
    for (const column of columns) {
      const shown = (!wanted.family || column.family === wanted.family) && (!wanted.shot || column.shot === wanted.shot);
      if (shown) shownColumns.add(column.i);
      heads(table)[column.i].hidden = !shown;
    }
    const everything = all.getAttribute("aria-pressed") === "true";
    let [shown, total] = [0, 0];
    for (const group of groups) {
      let isAny = false;
      for (const item of group.rows) {
        let isMeant = !narrows;
        for (const { i } of columns) {
          const cell = item.cells[i];
          cell.hidden = !shownColumns.has(i);
          const isOut = cell.dataset.k !== undefined && !kindPasses[cell.dataset.k];
          cell.classList.toggle("out", isOut);
          const isResult = cell.dataset.k !== undefined;
          isMeant ||= !cell.hidden && !isOut && (isResult || (!asksCells && cell.textContent !== "·")); // a failure has no kind
        }
        item.isMeant = isMeant && words.every((word) => item.text.includes(word));
        isAny ||= item.isMeant;
      }
      const head = group.rows[0];
      const isOpen = everything || unfolded.has(group.body) || (isAny && !head.isMeant);
      for (const item of group.rows) item.row.hidden = !(item.isMeant && (!item.isVariant || isOpen));
      if (group.fold) group.fold.setAttribute("aria-expanded", String(isOpen));
      group.body.hidden = !isAny;
      shown += isAny;
      total += 1;
    }
    form.querySelector("[data-shown]").textContent = shown === total ? `${total} methods` : `${shown} of ${total} methods`;
    for (const [name, value] of Object.entries(wanted)) remember(name, value);
    remember("variants", everything ? "1" : "");
  }

  for (const group of groups) {
    group.fold?.addEventListener("click", () => {
      unfolded.has(group.body) ? unfolded.delete(group.body) : unfolded.add(group.body);
      apply();
    });
  }
  all.addEventListener("click", () => {
    const isOn = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", String(isOn));
    unfolded.clear();
    apply();
  });
  return apply;
}

function makeControls(form) {
  const apply = makeOverview(form);
  for (const field of form.elements) {
    if (!field.name || !state.has(field.name)) continue;
    if (field.type === "checkbox") field.checked = true;
    else field.value = state.get(field.name);
  }
  if (state.has("variants")) form.querySelector("[data-unfold]").setAttribute("aria-pressed", "true");
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    form.querySelector("[data-unfold]").setAttribute("aria-pressed", "false");
    apply();
  }));
  apply();
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      form.elements.q.focus();
    } else if (event.key === "Escape" && event.target === form.elements.q) {
      form.elements.q.value = "";
      apply();
    }
  });
}

// --- pictures of other benchmarks come as scripts, since a page on disk may not fetch

const pictures = {};

function makePicture(choice) {
  const place = document.querySelector("[data-picture-place]");
  const link = document.querySelector("[data-picture-link]");
  const first = choice.value;
  pictures[first] = place.innerHTML;
  const show = () => {
    const name = choice.value;
    link.href = name + ".html";
    link.textContent = choice.selectedOptions[0].textContent;
    remember("picture", name === first ? "" : name);
    if (name in pictures) place.innerHTML = pictures[name];
    else document.head.append(element("script", { src: `picture-${name}.js` }));
  };
  choice.addEventListener("change", show);
  if (state.has("picture") && [...choice.options].some((option) => option.value === state.get("picture"))) {
    choice.value = state.get("picture");
    show();
  }
}

// --- pairs: the counts of a setting come as a script, since a page on disk may not fetch

let counts = null;
const waiting = [];

globalThis.fsbench = {
  picture([name, drawing]) {
    pictures[name] = drawing;
    const choice = document.querySelector("[data-picture]");
    if (choice.value === name) document.querySelector("[data-picture-place]").innerHTML = drawing;
  },
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

function axes(svg, names, low, high, ends) {
  svg.append(drawn("line", { x1: 30, y1: 200, x2: 230, y2: 200 }), drawn("line", { x1: 30, y1: 0, x2: 30, y2: 200 }));
  const write = (x, y, anchor, text) => {
    const made = drawn("text", { x, y, "text-anchor": anchor });
    made.textContent = text;
    svg.append(made);
  };
  write(30, 211, "start", low);
  write(230, 211, "end", high);
  names.forEach((name, i) => write(130, 222 + 11 * i, "middle", name));
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
  const svg = drawn("svg", { viewBox: "-4 -4 240 242", role: "img", "aria-label": "Accuracy of both on each episode" });
  svg.append(drawn("line", { x1: 30, y1: 200, x2: 230, y2: 0, "stroke-dasharray": 3 }));
  const most = Math.max(...groups.values());
  for (const [key, n] of groups) {
    const [x, y] = key.split("/").map(Number);
    const mark = { cx: (30 + place(x)).toFixed(1), cy: (200 - place(y)).toFixed(1), r: (1 + 3 * Math.sqrt(n / most)).toFixed(1), opacity: 0.6 };
    svg.append(drawn("circle", mark, `${(100 * x).toFixed(1)}% and ${(100 * y).toFixed(1)}%: ${n} ${counts.unit}`));
  }
  const text = (value) => Math.round(100 * value) + "%";
  axes(svg, ["→ " + names[0], "↑ " + names[1]], text(low), text(high), [text(low), text(high)]);
  return svg;
}

function histogram(difference, step) {
  const widest = Math.max(...difference.map(Math.abs), step);
  const width = Math.ceil((2 * widest) / 21 / step) * step; // whole steps, so that no bar holds more values than another
  const reach = Math.max(1, Math.round(widest / width));
  const bins = new Array(2 * reach + 1).fill(0);
  for (const d of difference) bins[Math.min(2 * reach, Math.max(0, Math.round(d / width) + reach))] += 1;
  const top = Math.max(...bins);
  const svg = drawn("svg", { viewBox: "-4 -4 240 242", role: "img", "aria-label": "Histogram of the differences" });
  bins.forEach((n, i) => {
    const centre = (100 * width * (i - reach)).toFixed(1);
    const box = { x: (30 + (200 * i) / bins.length).toFixed(1), y: (200 - (190 * n) / top).toFixed(1), width: (180 / bins.length).toFixed(1), height: ((190 * n) / top).toFixed(1) };
    svg.append(drawn("rect", box, `about ${centre} points: ${n} ${counts.unit}`));
  });
  svg.append(drawn("line", { x1: 130, y1: 0, x2: 130, y2: 200, "stroke-dasharray": 3 }));
  const end = (100 * width * reach).toFixed(0);
  axes(svg, ["difference, points"], "−" + end, "+" + end, null);
  return svg;
}

// The pair of the choosers: what is said of it, and its episodes. The page itself says it of the first pair.

const OTHER_WAY = { better: "worse", worse: "better" };

function found(i, j) {
  const [difference, half, bound, p, word, reason] = i < j ? counts.pairs[i][j - i - 1] : counts.pairs[j][i - j - 1];
  const sign = i < j ? 1 : -1;
  return { difference: (sign * difference) / 100, half: half / 100, bound: bound / 100, p, word: sign > 0 ? word : OTHER_WAY[word] || word, reason };
}

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

function sayPair(place, i, j) {
  const { difference, half, bound, p, word, reason } = found(i, j);
  const [a, b] = [counts.rows[i], counts.rows[j]];
  const command = counts.compare.replace(" A B ", ` ${a.run} ${b.run} `);
  place.replaceChildren(
    element("p", { class: "verdict" }, element("b", { class: "word " + word }, word), ` ${a.name} − ${b.name} = `, element("b", {}, signed(difference)), ` points, 95% ${signed(difference - half)} to ${signed(difference + half)}`),
    element("p", {}, `Among all pairs of this page ${p}${reason ? "; " + reason : ""}. The difference is surely below ${bound.toFixed(1)} points.`),
    element("p", {}, "What would decide it, seeds or episodes, and whether both fail on the same queries: ", element("code", {}, command)),
  );
}

function drawPair(place, i, j) {
  const names = [counts.rows[i].name, counts.rows[j].name];
  const [a, b] = [accuracies(i), accuracies(j)];
  const difference = a.map((value, k) => value - b[k]);
  const wins = difference.filter((d) => d > 1e-9).length;
  const losses = difference.filter((d) => d < -1e-9).length;
  const some = counts.drawn < counts.episodes ? `The first ${counts.drawn} of ${counts.episodes} ${counts.unit}` : `All ${counts.drawn} ${counts.unit}`;
  place.replaceChildren(
    element("p", { class: "quiet" }, `${some}: ${wins} won, ${losses} lost, ${difference.length - wins - losses} equal.`),
    scatter(a, b, names),
    histogram(difference, 1 / Math.max(counts.rows[i].steps, counts.rows[j].steps)),
  );
}

function makeCompare(form) {
  const [verdict, place] = [document.querySelector("[data-verdict]"), document.querySelector("[data-drawn]")];
  const [a, b] = [form.elements.a, form.elements.b];
  const table = document.querySelector("[data-pairs]");
  const nearest = document.querySelector("[data-nearest]");
  const said = [...verdict.childNodes];
  const isFirst = () => a.value === "0" && b.value === "1";

  function mark() {
    if (!table) return;
    const chosen = [Number(a.value), Number(b.value)];
    const near = new Set(counts.rows.map((row, k) => k));
    if (nearest?.checked) {
      const mean = counts.rows[chosen[0]].mean;
      const order = [...near].sort((x, y) => Math.abs(counts.rows[x].mean - mean) - Math.abs(counts.rows[y].mean - mean));
      for (const k of order.slice(11)) near.delete(k);
    }
    const shows = (k) => near.has(k);
    [...table.rows].forEach((row, r) => {
      row.hidden = r > 0 && !shows(r - 1);
      [...row.cells].forEach((cell, c) => {
        cell.hidden = c > 0 && !shows(c - 1);
        cell.classList.toggle("chosen", r === chosen[0] + 1 && c === chosen[1] + 1);
      });
    });
  }

  function show() {
    const [i, j] = [Number(a.value), Number(b.value)];
    remember("pair", isFirst() ? "" : `${i + 1}-${j + 1}`);
    remember("nearest", nearest?.checked ? "1" : "");
    withCounts(() => {
      mark();
      if (i === j) return verdict.replaceChildren(element("p", {}, "Choose two methods.")), place.replaceChildren();
      if (isFirst()) verdict.replaceChildren(...said);
      else sayPair(verdict, i, j);
      drawPair(place, i, j);
    });
  }

  const kept = /^(\d+)-(\d+)$/.exec(state.get("pair") || "");
  if (kept && kept[1] <= a.length && kept[2] <= a.length) [a.value, b.value] = [kept[1] - 1, kept[2] - 1];
  if (nearest && state.has("nearest")) nearest.checked = true;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("[data-swap]").addEventListener("click", () => {
    [a.value, b.value] = [b.value, a.value];
    show();
  });
  nearest?.addEventListener("input", show);
  table?.addEventListener("click", (event) => {
    const cell = event.target.closest("td[class]");
    if (!cell) return;
    [a.value, b.value] = [cell.parentNode.rowIndex - 1, cell.cellIndex - 1];
    show();
    form.scrollIntoView({ block: "start" });
  });
  show();
}

document.documentElement.classList.add("scripted");
for (const form of document.querySelectorAll("[data-controls]")) makeControls(form);
document.querySelectorAll("[data-sortable]").forEach(makeSortable);
document.querySelectorAll("[data-picture]").forEach(makePicture);
document.querySelectorAll("[data-compare]").forEach(makeCompare);
