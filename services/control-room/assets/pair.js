// The same order, placed each way, side by side.
import { byId, duration, el, say, shortId } from "./dom.js";
import { end } from "./row.js";
import { column, messages, rested } from "./steps.js";

const WAYS = {
  choreography: { name: "Choreography", how: "Each service reacts to the events of the others." },
  orchestration: { name: "Orchestration", how: "The orchestrator sends commands, and each service replies." },
};

/** The sides, by order id. */
const sides = new Map();

export function begin() {
  byId("pair-close").addEventListener("click", () => {
    sides.clear();
    byId("pair").hidden = true;
    // The button is hidden now, so the focus goes to the orders.
    byId("orders").focus();
  });
}

/** Shows these orders from now on: pairs of a coordination and an id. */
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

/** Shows the room's last state of both orders. */
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
  say(byId("pair-note"), isOver ? `Both at rest: ${took.map((ms) => duration(ms)).join(" and ")}.` : "Times are in ms since each order began.");
}
