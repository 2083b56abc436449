// The table of orders. Each order has a row group of its own, which is changed in place, so that it keeps the focus.
import { announce, byId, say, shortId, words } from "./dom.js";
import * as pair from "./pair.js";
import { Row } from "./row.js";

/** The number of orders that the room sends. */
const MOST = 50;
/** The number of rows at first, which keeps the rest of the page near. */
const FEW = 10;

const lines = new Map();
const rows = new Map();
const own = new Set();
let held = false;
let heardMeanwhile = 0;
let many = false;
let heard = false;
let settings = { demo: false, trace_url: null };

export function begin() {
  byId("filter").addEventListener("change", draw);
  byId("hold").addEventListener("click", () => {
    held = !held;
    heardMeanwhile = 0;
    byId("hold").setAttribute("aria-pressed", String(held));
    draw();
  });
  byId("more").addEventListener("click", () => {
    many = !many;
    draw();
  });
  draw();
}

export function apply(config) {
  settings = config;
  for (const row of rows.values()) row.show(lines.get(row.id), settings);
}

/** Replaces all orders. */
export function all(orders) {
  heard = true;
  lines.clear();
  for (const line of orders) lines.set(line.id, line);
  draw();
}

/** Shows an order that is new or has changed. */
export function one(line) {
  const before = lines.get(line.id);
  lines.set(line.id, line);
  for (const id of sorted().slice(MOST)) lines.delete(id);
  if (own.has(line.id) && before?.state !== line.state) tell(line);
  if (held) heardMeanwhile += 1;
  draw();
}

/** Marks an order that was placed here. Screen readers read each of its states. */
export function mine(id) {
  own.add(id);
  const line = lines.get(id);
  if (line) tell(line);
  draw();
}

function tell(line) {
  announce(`Order …${shortId(line.id)} is ${line.state}${line.reason ? `: ${words(line.reason)}` : ""}.`);
}

/** Returns the ids of the orders, newest first: ids of version 7 are ordered by time. */
const sorted = () => [...lines.keys()].sort().reverse();

function wanted(line) {
  switch (byId("filter").value) {
    case "mine": return own.has(line.id);
    case "moving": return !line.at_rest;
    case "choreography": return line.coordination === "choreography";
    case "orchestration": return line.coordination === "orchestration";
    default: return true;
  }
}

function draw() {
  note();
  pair.show(lines);
  if (held && rows.size > 0) return;
  const fitting = sorted().filter((id) => wanted(lines.get(id)));
  const ids = fitting.slice(0, many ? MOST : FEW);
  // A row that is open, or has the focus, stays while its order is known.
  for (const [id, row] of rows) {
    const kept = lines.has(id) && (row.isOpen || row.body.contains(document.activeElement));
    if (kept && !ids.includes(id)) ids.push(id);
    if (!ids.includes(id)) {
      row.body.remove();
      rows.delete(id);
    }
  }
  let previous = byId("orders-table").tHead;
  for (const id of ids) {
    const row = rows.get(id) ?? new Row(id);
    rows.set(id, row);
    row.show(lines.get(id), settings, own.has(id));
    // Moving an element takes the focus from it, so only rows in another place are moved.
    if (previous.nextElementSibling !== row.body) previous.after(row.body);
    previous = row.body;
  }
  byId("no-orders").hidden = ids.length > 0;
  say(byId("no-orders"), !heard ? "Waiting for the room’s first snapshot."
    : lines.size > 0 ? "No order fits the filter." : "No orders yet: place one.");
  byId("more").hidden = fitting.length <= FEW;
  say(byId("more"), many ? "Show fewer" : `Show all ${fitting.length}`);
}

function note() {
  const moving = [...lines.values()].filter((line) => !line.at_rest).length;
  const text = `${lines.size} known, ${moving} not at rest`;
  say(byId("orders-note"), held ? `Held still; ${heardMeanwhile} changes since.` : text);
}
