// The same order, placed each way, side by side.
import { byId, duration, el, say, shortId } from "./dom.js";
import { end } from "./row.js";
import { column, messages, rested } from "./steps.js";

const WAYS = {
  choreography: { name: "Choreography", how: "Each service reacts to what the others say." },
  orchestration: { name: "Orchestration", how: "The orchestrator asks each service, and each answers." },
};

/** Each side, by its order. */
const sides = new Map();

export function begin() {
  byId("pair-close").addEventListener("click", () => {
    sides.clear();
    byId("pair").hidden = true;
    // The button is gone: whoever pressed it goes on with the orders.
    byId("orders").focus();
  });
}

/** Shows these from now on: ids by the way that each goes. */
export function compare(pair) {
  sides.clear();
  for (const [way, id] of pair) {
    const state = el("p", { class: "state" });
    const steps = el("div", {});
    const { name, how } = WAYS[way];
    const root = el("section", { "data-pair": id, "data-way": way, "aria-label": name },
      el("h4", {}, `${name} `, el("span", { class: "fine" }, `…${shortId(id)}`)), el("p", { class: "fine" }, how), state, steps);
    sides.set(id, { root, state, steps, line: null, shown: "" });
  }
  byId("pair-sides").replaceChildren(...[...sides.values()].map(({ root }) => root));
  byId("pair").hidden = false;
}

/** What the room last said of them. */
export function show(lines) {
  for (const [id, side] of sides) {
    const line = lines.get(id);
    const now = JSON.stringify(line);
    if (!line || now === side.shown) continue;
    Object.assign(side, { line, shown: now });
    Object.assign(side.root.dataset, { state: line.state, rest: String(line.at_rest), stuck: String(line.stuck) });
    side.state.replaceChildren(el("span", { class: "badge" }, line.state), el("span", { class: "fine" }, `${end(line)}, ${messages(line)} messages`));
    side.steps.replaceChildren(column(line.steps));
  }
  const took = [...sides.values()].map(({ line }) => (line ? rested(line) : null));
  const isOver = sides.size > 0 && took.every((ms) => ms !== null);
  say(byId("pair-note"), isOver ? `Both at rest: ${took.map((ms) => duration(ms)).join(" and ")}.` : "Time is in ms since each began.");
}
