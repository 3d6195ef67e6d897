"use strict";
// Charts in SVG. Each has a title and a description for screen readers, and its numbers in a table beside it.

function drawing(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function canvas_of(width, height, title, description) {
  const svg = drawing("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. ${description}` }, drawing("title", {}, title));
  svg.style.maxWidth = `${1.1 * width}px`; // so that letters stay about as large as those of the page
  return svg;
}

// How wide a chart is drawn: on a phone no wider than the page, so that its letters stay readable.
const room = most => Math.max(300, Math.min(most, document.querySelector("main").clientWidth - 28));

const short = (text, most) => ([...text].length > most ? [...text].slice(0, most - 1).join("") + "\u2026" : text);

function bars(title, names, values) {
  const shown = Math.min(names.length, 30), left = 130, width = room(460), step = 20;
  const most = Math.max(...values, 1);
  const best = names[values.indexOf(Math.max(...values))];
  const svg = canvas_of(width, shown * step + 4, title, `Bars; the longest is ${best} with ${Math.max(...values)}. The table below has all.`);
  for (let i = 0; i < shown; i++) {
    const y = i * step, length = ((width - left - 60) * values[i]) / most;
    svg.append(
      drawing("text", { x: left - 6, y: y + 14, "text-anchor": "end" }, short(names[i], 18)),
      drawing("rect", { class: "bar", x: left, y: y + 3, width: Math.max(length, 0.5), height: step - 6, rx: 2 }),
      drawing("text", { class: "soft", x: left + length + 5, y: y + 14 }, values[i].toLocaleString("en")),
    );
  }
  if (shown < names.length) svg.setAttribute("aria-label", `${svg.getAttribute("aria-label")} ${names.length - shown} more are in the table alone.`);
  return svg;
}

function intervals(title, rows) { // rows: [name, score, from, to] as fractions
  const left = 150, width = room(720), step = 21, height = rows.length * step + 26;
  const best = rows.reduce((a, b) => (b[1] > a[1] ? b : a));
  const svg = canvas_of(width, height, title, `Scores with 95 % intervals; the highest is ${best[0]} with ${(100 * best[1]).toFixed(1)} per cent.`);
  const x = value => left + (width - left - 20) * value;
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      drawing("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 0, y2: height - 20 }),
      drawing("text", { class: "soft", x: x(tick), y: height - 5, "text-anchor": "middle" }, `${100 * tick}`),
    );
  }
  rows.forEach(([name, score, from, to], i) => {
    const y = i * step + 11;
    svg.append(drawing("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, short(name, 22)));
    if (from !== null) svg.append(drawing("line", { class: "mark", x1: x(from), x2: x(to), y1: y, y2: y, "stroke-width": 2 }));
    svg.append(drawing("circle", { class: "mark", cx: x(score), cy: y, r: 4.5 }));
  });
  return svg;
}

function axes(svg, width, height, pad, [low, high], x_title, y_title) {
  const digits = high - low < 0.05 ? 3 : high - low <= 1 ? 2 : 1;
  for (let i = 0; i <= 4; i++) {
    const y = height - pad - ((height - 2 * pad) * i) / 4;
    svg.append(
      drawing("line", { class: "axis", x1: pad, x2: width - 8, y1: y, y2: y }),
      drawing("text", { class: "soft", x: pad - 6, y: y + 4, "text-anchor": "end" }, (low + ((high - low) * i) / 4).toFixed(digits)),
    );
  }
  svg.append(
    drawing("text", { class: "soft", x: width - 8, y: height - 6, "text-anchor": "end" }, x_title),
    drawing("text", { class: "soft", x: pad, y: 14 }, y_title),
  );
}

function lines(title, series, x_title, y_title) { // series: {name, xs, ys, colour, dash}
  const width = room(520), height = 280, pad = 44;
  const points = series.flatMap(one => one.ys.filter(y => y !== null));
  const low = Math.min(...points), high = Math.max(...points, low + 1e-6), last = Math.max(2, ...series.flatMap(one => one.xs));
  const svg = canvas_of(width, height, title, `${series.length} lines: ${[...new Set(series.map(one => one.name))].join(", ")}.`);
  axes(svg, width, height, pad, [low, high], `${x_title} (1 to ${last})`, y_title);
  for (const one of series) {
    const at = one.xs.flatMap((x, i) => (one.ys[i] === null ? [] : [`${(pad + ((width - 8 - pad) * (x - 1)) / (last - 1)).toFixed(1)} ${(height - pad - ((height - 2 * pad) * (one.ys[i] - low)) / (high - low)).toFixed(1)}`]));
    if (at.length) svg.append(drawing("path", { class: "path", stroke: one.colour, "stroke-dasharray": one.dash ?? "none", d: `M${at.join(" L")}` }, drawing("title", {}, one.name)));
  }
  return svg;
}

// Scores by kind of clip: rows are [mode, scores]; the mode looked at and the one that others are tested against stand out.
function profiles(title, names, rows, mode, base, most) {
  const width = room(640), height = 250, pad = 44;
  const points = rows.flatMap(row => row[1]).filter(value => value !== null);
  const low = Math.min(0, ...points), high = Math.max(most === 100 ? 100 : 1e-6, ...points);
  const loud = rows.filter(row => [mode, base].includes(row[0])).sort((a, b) => (a[0] === mode) - (b[0] === mode));
  const words = ([name, scores]) => `${name}: ${scores.map((score, i) => `${names[i]} ${score === null ? "-" : score.toFixed(1)}`).join(", ")}`;
  const svg = canvas_of(width, height, title, `${loud.map(words).join("; ")}. The table below has all modes.`);
  axes(svg, width, height, pad, [low, high], "", "");
  const x = i => pad + ((width - 20 - pad) * (i + 0.5)) / names.length, y = value => height - pad - ((height - 2 * pad) * (value - low)) / (high - low);
  names.forEach((name, i) => svg.append(drawing("text", { class: "soft", x: x(i), y: height - pad + 18, "text-anchor": "middle" }, name)));
  const path = (scores, attributes, name) => drawing("path", { ...attributes, d: scores.flatMap((score, i) => (score === null ? [] : [`${x(i).toFixed(1)} ${y(score).toFixed(1)}`])).map((at, i) => (i ? "L" : "M") + at).join("") }, drawing("title", {}, name));
  for (const [name, scores] of rows.filter(row => !loud.includes(row))) svg.append(path(scores, { class: "path quiet" }, name));
  loud.forEach(([name, scores]) => {
    const colour = PALETTE[name === mode ? 0 : 1];
    svg.append(path(scores, { class: "path", stroke: colour, "stroke-width": 2.5 }, name));
    scores.forEach((score, i) => score !== null && svg.append(drawing("circle", { cx: x(i), cy: y(score), r: 4, fill: colour })));
  });
  let left = pad;
  for (const [name, colour] of [...loud.map(row => [row[0], PALETTE[row[0] === mode ? 0 : 1]]).reverse(), ...(rows.length > loud.length ? [["other modes", null]] : [])]) {
    svg.append(drawing("circle", { cx: left + 5, cy: 10, r: 4, ...(colour ? { fill: colour } : { class: "dim" }) }), drawing("text", { x: left + 14, y: 14 }, short(name, 22)));
    left += 30 + 7 * Math.min(22, name.length);
  }
  return svg;
}

function reliability(title, calibration) {
  const width = room(360), height = 320, pad = 44, svg = canvas_of(width, height, title, `Share that was true by score; expected calibration error ${(100 * calibration.error).toFixed(1)} per cent.`);
  axes(svg, width, height, pad, [0, 1], "score", "share that was true");
  const x = value => pad + (width - 8 - pad) * value, y = value => height - pad - (height - 2 * pad) * value;
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) svg.append(drawing("text", { class: "soft", x: x(tick), y: height - pad + 20, "text-anchor": "middle" }, tick.toFixed(2)));
  svg.append(drawing("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  const most = Math.max(...calibration.bins.map(bin => bin[2]));
  for (const [mean, share, count] of calibration.bins) svg.append(drawing("circle", { class: "mark", cx: x(mean), cy: y(share), r: 3 + 6 * Math.sqrt(count / most), "fill-opacity": 0.75 }, drawing("title", {}, `${count} decisions`)));
  return svg;
}

function spans(title, rows) { // rows: [name, mean, from, to]
  const left = 120, width = room(460), step = 24, height = rows.length * step + 26, most = Math.ceil(2 * Math.max(1, ...rows.flatMap(row => row.slice(1, 4)))) / 2;
  const svg = canvas_of(width, height, title, `${rows.map(row => `${row[0]}: ${row[1].toFixed(2)}`).join("; ")}.`);
  const x = value => left + ((width - left - 20) * value) / most;
  for (const tick of [0, 0.5, 1]) {
    svg.append(
      drawing("line", { class: "axis", x1: x(tick * most), x2: x(tick * most), y1: 0, y2: height - 20 }),
      drawing("text", { class: "soft", x: x(tick * most), y: height - 5, "text-anchor": "middle" }, (tick * most).toFixed(2)),
    );
  }
  rows.forEach(([name, mean, from, to], i) => {
    const y = i * step + 12;
    svg.append(
      drawing("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, name),
      drawing("line", { class: "mark", x1: x(from), x2: x(to), y1: y, y2: y, "stroke-width": 2 }),
      drawing("circle", { class: "mark", cx: x(mean), cy: y, r: 4.5 }),
    );
  });
  return svg;
}
