"use strict";
// Tables: sorted by their heads, shaded, copied as CSV. All text of a store becomes text, never markup.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
const name_of = text => element("bdi", {}, text);

function value_of(cell) {
  return cell.dataset.v === undefined ? cell.textContent.trim() : Number(cell.dataset.v);
}

function compare(a, b, up) {
  const none = value => value === "-" || value === "";
  if (none(a) || none(b)) return none(a) - none(b); // what is not defined stands last, either way
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return up ? order : -order;
}

function sort(table, column, head) {
  const up = head.getAttribute("aria-sort") === "descending" || (head.getAttribute("aria-sort") === null && !head.classList.contains("n"));
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map(row => [value_of(row.cells[column]), row]);
  rows.sort((a, b) => compare(a[0], b[0], up));
  body.append(...rows.map(row => row[1]));
}

function csv(table) {
  const quoted = value => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const line = row => [...row.cells].map(cell => quoted(cell.dataset.v ?? cell.dataset.name ?? (cell.classList.contains("n") && cell.textContent === "-" ? "" : cell.textContent.trim()))).join(",");
  return [...table.rows].map(line).join("\n") + "\n";
}

async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // as where the page was opened from an insecure place
    const area = element("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  button.textContent = done ? "Copied" : "Could not copy";
  setTimeout(() => (button.textContent = "Copy CSV"), 1500);
}

function shade(table) {
  const plain = [...table.tHead.rows[0].cells].map(head => ["deviation", "thesis"].includes(head.textContent));
  for (const cell of table.querySelectorAll("tbody td[data-v]")) {
    if (plain[cell.cellIndex]) continue;
    const value = Math.min(1, Math.max(0, Number(cell.dataset.v)));
    cell.style.background = `rgba(var(--heat), ${(0.45 * value).toFixed(3)})`;
  }
}

function bring_to_life(figure) {
  const table = figure.querySelector("table");
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const cells = [...table.tBodies[0].rows].map(row => row.cells[column]);
    const numeric = cells.some(cell => cell.dataset.v !== undefined) && cells.every(cell => cell.classList.contains("n"));
    head.classList.toggle("n", numeric);
    const button = element("button", { type: "button", title: "Sort" }, head.textContent);
    button.addEventListener("click", () => sort(table, column, head));
    head.dataset.title = head.textContent;
    head.replaceChildren(button);
  });
  if (figure.classList.contains("heat")) shade(table);
  figure.querySelector(".copy").addEventListener("click", event => copy(csv(table), event.target));
}

// A table made here. Cells are strings, numbers, null, or [number, text as printed].
function make_table(title, columns, rows, { note = "", kind = "" } = {}) {
  const cell = (value, first) => {
    if (value === null || value === undefined) return element("td", { class: "n" }, "-");
    if (typeof value === "number") return element("td", { class: "n", "data-v": value }, value.toLocaleString("en"));
    if (Array.isArray(value)) return element("td", { class: "n", "data-v": value[0] }, value[1]);
    return first ? element("th", { scope: "row" }, name_of(value)) : element("td", {}, name_of(value));
  };
  const head = element("thead", {}, element("tr", {}, ...columns.map(column => element("th", { scope: "col" }, column))));
  const body = element("tbody", {}, ...rows.map(row => element("tr", {}, ...row.map((value, i) => cell(value, i === 0)))));
  const caption = element("figcaption", {}, element("h4", {}, title), element("button", { type: "button", class: "copy" }, "Copy CSV"));
  const scroll = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, element("table", {}, head, body));
  const figure = element("figure", { class: `table ${kind}` }, caption, scroll);
  if (!rows.length) scroll.replaceChildren(element("p", { class: "empty" }, "None."));
  if (note) figure.append(element("p", { class: "note" }, note));
  if (rows.length) bring_to_life(figure);
  else caption.querySelector("button").remove();
  return figure;
}
