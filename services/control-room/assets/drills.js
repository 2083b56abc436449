// Drills: the failure that a pattern is for, with the pattern and without it, reported live.
import * as api from "./api.js";
import { byId, during, el, say } from "./dom.js";

let known = false;

export async function apply({ demo }) {
  byId("drills").hidden = !demo;
  if (!demo || known) return;
  known = true;
  try {
    const drills = await api.drills();
    byId("drill-buttons").replaceChildren(...drills.map(({ name, what }) =>
      el("button", {
        type: "button", "data-drill": name, title: what,
        onclick: (event) => during(event.currentTarget, byId("drill-outcome"), async () => {
          await api.drill(name);
          return what;
        }),
      }, name.replaceAll("-", " "))));
  } catch (error) {
    known = false;
    say(byId("drill-outcome"), error.message);
  }
}

/** Shows the lines that a drill has reported so far. */
export function show({ name, running, lines }) {
  const log = byId("drill-log");
  log.hidden = false;
  log.dataset.running = String(running);
  say(log, lines.join("\n"));
  log.scrollTop = log.scrollHeight;
  for (const button of byId("drill-buttons").children) {
    button.disabled = running;
    button.setAttribute("aria-pressed", String(running && button.dataset.drill === name));
  }
}
