// Sagas, as the orchestrator shows them: what each step was asked, what it answered, and what remains.
import * as api from "./api.js";
import { clock, duration, el, say, words } from "./dom.js";

/** An order's changes come many at a time; its sagas are asked for no more often than this. */
const PAUSE_MS = 400;
/** What the room heard, the orchestrator may not have taken in yet: a saga that goes on is looked at again. */
const AGAIN_MS = 1500;

const goesOn = ({ phase }) => ["running", "compensating"].includes(phase);
const isOver = ({ phase }) => ["completed", "compensated", "abandoned"].includes(phase);

const text = (value) => JSON.stringify(value, null, 2);
/** The same everywhere: "undo charge payment". */
export const asks = ({ step, asked }) => (asked === "do" ? words(step) : `${words(asked)} ${words(step)}`);

/** One saga. Its parts stay and their contents change, so that what is open stays open and what has the focus keeps it. */
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
      el("details", {}, el("summary", {}, "What it sent, in full"), this.commands),
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
    say(this.about, [`version ${version}, ${since}`, cause && `undone because of ${words(cause)}`, error].filter(Boolean).join("; "));
    this.table.replaceChildren(table(steps));
    say(this.remaining, remaining.length > 0 ? `Remains, in this order: ${remaining.map(asks).join(", ")}.` : "");
    this.deeds.replaceChildren(...deeds.map(({ action, step, operator, note, at }) =>
      el("li", {}, `${operator}, ${clock(at)}: ${action}${step ? ` at ${words(step)}` : ""}, “${note}”`)));
    const sent = steps.flatMap(({ name, asks: all }) => all.map(({ asked, payload }) => `${name}, ${asked}: ${text(payload)}`));
    say(this.commands, sent.join("\n") || "Nothing yet.");
    say(this.logTitle, `Its log (${log.length})`);
    say(this.log, log.map(({ seq, input, effect, at }) => `${seq} ${clock(at)} ${JSON.stringify(input)}${effect ? ` → ${effect}` : ""}`).join("\n"));
  }
}

/** The steps, and below each what it was asked. */
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
  const head = ["step", "is", "asked to", "answered"].map((name) => el("th", { role: "columnheader", scope: "col" }, name));
  return el("table", { role: "table", class: "events asks" }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
    el("tbody", { role: "rowgroup" }, ...rows));
}

/** The sagas of an order, the first one first. */
export class SagasOf {
  constructor(id) {
    this.id = id;
    this.views = new Map();
    this.note = el("p", { class: "fine" });
    this.root = el("div", { class: "sagas" }, this.note);
    this.isBusy = false;
    this.again = false;
  }

  /** Asks for them; again afterwards, if it was told to meanwhile. */
  async load() {
    clearTimeout(this.timer);
    this.again = true;
    if (this.isBusy) return;
    this.isBusy = true;
    while (this.again) {
      this.again = false;
      try {
        const { sagas } = await api.sagasOf(this.id);
        say(this.note, sagas.length === 0 ? "The orchestrator has not begun with it." : "");
        for (const saga of sagas.reverse()) this.show(saga);
        if (sagas.length === 0 || sagas.some(goesOn)) this.timer = setTimeout(() => this.isSeen() && this.load(), AGAIN_MS);
      } catch (error) {
        // What is shown stays; the order's next change asks again.
        say(this.note, `Its sagas: ${error.message}`);
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
