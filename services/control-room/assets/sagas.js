// Sagas, as the orchestrator shows them: the commands of each step, their replies, and what remains.
import * as api from "./api.js";
import { clock, duration, el, say, words } from "./dom.js";

/** The pause between two loads of an order's sagas: its changes come many at a time. */
const PAUSE_MS = 400;
/** The pause before a saga in progress is loaded again: the orchestrator may lag behind the messages. */
const AGAIN_MS = 1500;

const goesOn = ({ phase }) => ["running", "compensating"].includes(phase);
const isOver = ({ phase }) => ["completed", "compensated", "abandoned"].includes(phase);

const text = (value) => JSON.stringify(value, null, 2);
/** Returns the name of a command, such as "undo charge payment". */
export const asks = ({ step, asked }) => (asked === "do" ? words(step) : `${words(asked)} ${words(step)}`);

/** One saga. Its elements stay and only their contents change, so that open parts stay open and the focus stays. */
export class SagaView {
  constructor() {
    this.title = el("h4", {});
    this.about = el("p", { class: "fine" });
    this.table = el("div", {});
    this.remaining = el("p", { class: "fine" });
    this.deeds = el("ul", { class: "fine" });
    this.commands = el("pre", {});
    this.log = el("pre", {});
    this.logTitle = el("summary", {}, "Its log");
    this.root = el("section", { class: "saga" }, this.title, this.about, this.table, this.remaining, this.deeds,
      el("details", {}, el("summary", {}, "Its commands, in full"), this.commands),
      el("details", {}, this.logTitle, this.log));
    this.shown = "";
  }

  show(saga) {
    const now = JSON.stringify(saga);
    if (now === this.shown) return;
    this.shown = now;
    const { definition, version, phase, cause, error, steps, remaining, deeds, log, created_at: began, updated_at: moved } = saga;
    Object.assign(this.root.dataset, { sagaView: saga.id, phase });
    this.title.replaceChildren(`Saga ${words(definition)} `, el("span", { class: "badge" }, phase));
    const since = isOver(saga) ? `took ${duration(new Date(moved) - new Date(began))}` : `began ${clock(began)}`;
    say(this.about, [`version ${version}, ${since}`, cause && `compensated because of ${words(cause)}`, error].filter(Boolean).join("; "));
    this.table.replaceChildren(table(steps));
    say(this.remaining, remaining.length > 0 ? `Remaining, in this order: ${remaining.map(asks).join(", ")}.` : "");
    this.deeds.replaceChildren(...deeds.map(({ action, step, operator, note, at }) =>
      el("li", {}, `${operator}, ${clock(at)}: ${action}${step ? ` at ${words(step)}` : ""}, “${note}”`)));
    const sent = steps.flatMap(({ name, asks: all }) => all.map(({ asked, payload }) => `${name}, ${asked}: ${text(payload)}`));
    say(this.commands, sent.join("\n") || "Nothing yet.");
    say(this.logTitle, `Its log (${log.length})`);
    say(this.log, log.map(({ seq, input, effect, at }) => `${seq} ${clock(at)} ${JSON.stringify(input)}${effect ? ` → ${effect}` : ""}`).join("\n"));
  }
}

/** Returns a table of the steps, each with its commands. */
function table(steps) {
  const cell = (value) => el("td", { role: "cell" }, value);
  const rows = steps.flatMap(({ name, mark, asks: all }) => {
    const step = (name_, mark_, asked) => el("tr", { role: "row", "data-undoes": String(Boolean(asked) && asked.asked !== "do") },
      cell(name_), cell(mark_),
      cell(asked ? `${asked.asked}${asked.attempts > 1 ? `, ${asked.attempts}×` : ""}` : ""),
      cell(!asked ? "" : asked.answer ? `${words(asked.answer.replace(".", " "))}, after ${duration(asked.duration_ms ?? 0)}` : "not yet"));
    if (all.length === 0) return [step(words(name), mark, null)];
    return all.map((asked, n) => step(n === 0 ? words(name) : "", n === 0 ? mark : "", asked));
  });
  const head = ["step", "status", "command", "reply"].map((name) => el("th", { role: "columnheader", scope: "col" }, name));
  return el("table", { role: "table", class: "events asks" }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
    el("tbody", { role: "rowgroup" }, ...rows));
}

/** The sagas of an order, oldest first. */
export class SagasOf {
  constructor(id) {
    this.id = id;
    this.views = new Map();
    this.note = el("p", { class: "fine" });
    this.root = el("div", { class: "sagas" }, this.note);
    this.isBusy = false;
    this.again = false;
  }

  /** Loads the sagas, and again afterwards if it is called meanwhile. */
  async load() {
    clearTimeout(this.timer);
    this.again = true;
    if (this.isBusy) return;
    this.isBusy = true;
    while (this.again) {
      this.again = false;
      try {
        const { sagas } = await api.sagasOf(this.id);
        say(this.note, sagas.length === 0 ? "The orchestrator has no saga of this order yet." : "");
        for (const saga of sagas.reverse()) this.show(saga);
        if (sagas.length === 0 || sagas.some(goesOn)) this.timer = setTimeout(() => this.isSeen() && this.load(), AGAIN_MS);
      } catch (error) {
        // What is shown stays; the order's next change loads them again.
        say(this.note, `Cannot load its sagas: ${error.message}`);
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    this.isBusy = false;
  }

  isSeen() {
    return this.root.offsetParent !== null;
  }

  show(saga) {
    if (!this.views.has(saga.id)) {
      const view = new SagaView();
      this.views.set(saga.id, view);
      this.root.append(view.root);
    }
    this.views.get(saga.id).show(saga);
  }
}
