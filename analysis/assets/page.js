// Sorting, filtering and differences of tables, and the contents list. Everything can be read without this script.
"use strict";

const NUMBER = /^[-+]?\d[\d,]*\.?\d*(e[-+]?\d+)?/i;

function keyOf(cell) {
  const text = cell.textContent.trim();
  const found = text.match(NUMBER);
  return { text, value: found ? parseFloat(found[0].replaceAll(",", "")) : NaN };
}

// Rows without a value in the column stay last in either direction; equal ones keep their order.
function sortRows(body, column, direction, numeric) {
  const keyed = [...body.rows].map((row) => ({ row, ...keyOf(row.cells[column]) }));
  const empty = (key) => (numeric ? isNaN(key.value) : !key.text);
  const sign = direction === "descending" ? -1 : 1;
  keyed.sort((one, other) => {
    const last = empty(one) - empty(other);
    if (last || empty(one)) return last;
    return sign * (numeric ? one.value - other.value : one.text.localeCompare(other.text, "en", { numeric: true }));
  });
  body.append(...keyed.map((key) => key.row));
}

function makeSortable(table, body) {
  const original = [...body.rows];
  const heads = [...[...table.tHead.rows].pop().cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const first = head.dataset.better === "higher" ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const next = { none: first, [first]: second, [second]: "none" }[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", next);
      body.append(...original);
      if (next !== "none") sortRows(body, column, next, !head.classList.contains("text"));
    });
  });
}

function makeFilter(tools, body, title) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  const count = document.createElement("output");
  box.type = "search";
  box.setAttribute("aria-label", `Filter rows of ${title}`);
  label.append("Filter rows ", box);
  tools.append(label, count);
  const rows = [...body.rows];
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.value = box.value.trim() ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });
}

function makeDifferences(tools, table, title) {
  const cells = [...table.querySelectorAll("td[data-difference]")];
  if (!cells.length) return;
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.setAttribute("aria-label", `Difference to dense in ${title}`);
  label.append(box, " Difference to dense");
  tools.append(label);
  const shown = cells.map((cell) => [...cell.childNodes]);
  box.addEventListener("change", () => {
    cells.forEach((cell, index) => {
      if (box.checked) cell.replaceChildren(...intervals(cell.dataset.difference));
      else cell.replaceChildren(...shown[index]);
    });
  });
}

function intervals(text) {
  const [mean, width] = text.split(" \u00b1 ");
  if (!width) return [text];
  const interval = document.createElement("span");
  interval.className = "interval";
  interval.textContent = `\u00b1 ${width}`;
  return [`${mean} `, interval];
}

for (const scroll of document.querySelectorAll(".scroll")) {
  const table = scroll.querySelector("table");
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const tools = document.createElement("div");
  tools.className = "tools";
  scroll.before(tools);
  makeFilter(tools, body, table.caption.textContent);
  makeDifferences(tools, table, table.caption.textContent);
  makeSortable(table, body);
}

// The contents are folded on a phone, and show where the reader is.
const contents = document.querySelector("nav > details");
const wide = window.matchMedia("(min-width: 75rem)");
const fold = () => { contents.open = wide.matches; };
wide.addEventListener("change", fold);
fold();
const links = new Map([...contents.querySelectorAll("a")].map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
const places = [...links.keys()].map((id) => document.getElementById(id));
let asked = false;
const mark = () => {
  asked = false;
  const passed = places.filter((place) => place.getBoundingClientRect().top < 120);
  const here = passed.length ? links.get(passed[passed.length - 1].id) : null;
  for (const link of links.values()) link.removeAttribute("aria-current");
  if (!here) return;
  here.setAttribute("aria-current", "true");
  if (!wide.matches) return;
  const list = document.querySelector("nav");
  if (here.offsetTop < list.scrollTop || here.offsetTop > list.scrollTop + list.clientHeight - 60)
    list.scrollTop = here.offsetTop - list.clientHeight / 2;
};
window.addEventListener("scroll", () => { if (!asked) { asked = true; requestAnimationFrame(mark); } }, { passive: true });
