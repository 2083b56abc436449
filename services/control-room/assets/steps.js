// An order's steps: events if it is choreographed; commands and their replies if it is orchestrated.
import { clock, duration, el, words } from "./dom.js";

/** Short words for events and replies, which fit a narrow column. Other types go by their own name. */
const SAID = {
  "order.created": "created", "order.confirmed": "confirmed", "order.cancelling": "cancelling", "order.cancelled": "cancelled",
  "order.settling": "settling", "order.confirm_rejected": "not confirmed", "order.completed": "completed",
  "payment.completed": "paid", "payment.declined": "declined", "payment.refunded": "refunded",
  "payment.nothing_to_undo": "nothing paid", "payment.settled": "payment written off",
  "inventory.reserved": "reserved", "inventory.rejected": "out of stock", "inventory.committed": "sold",
  "inventory.released": "released", "inventory.nothing_to_undo": "nothing reserved", "inventory.settled": "stock written off",
  "notification.queued": "told",
};
/** Short words for commands. */
const ASKED = {
  "order.start_saga": "start", "order.cancel_requested": "give up",
  "orchestrator.charge_payment": "charge", "orchestrator.refund_payment": "refund", "orchestrator.settle_payment": "write off payment",
  "orchestrator.reserve_inventory": "reserve", "orchestrator.commit_inventory": "sell",
  "orchestrator.release_inventory": "release", "orchestrator.settle_inventory": "write off stock",
  "orchestrator.confirm_order": "confirm", "orchestrator.complete_order": "complete", "orchestrator.cancel_order": "cancel",
  "orchestrator.send_notification": "tell customer",
};
/** Short words for the start of a saga. */
const BEGUN = { place_order: "begun", undo_order: "undo begun" };
/** The types that bring an order to rest. Later messages do not concern its state. */
const ENDS = ["inventory.committed", "order.completed", "order.cancelled"];
/** The most steps that a line shows: an order whose commands are resent has many. */
const FEW = 12;

export const plain = (type) => type.replace(/\.v\d+$/, "");
const spelt = (type) => words(plain(type).replace(".", " "));
const said = (type) => SAID[plain(type)] ?? spelt(type);
const asked = ({ type, ask }) => `${ASKED[plain(type)] ?? spelt(type)}${ask.about ? `: ${words(ask.about)}` : ""}`;

/** Returns true while a command waits for its reply. The orchestrator does not reply: its saga's commands follow. */
const isAwaited = ({ ask }) => ask && !ask.answer && ask.of !== "orchestrator";
const times = ({ attempts }) => (attempts > 1 ? ` ${attempts}×` : "");
/** Returns the word that marks a compensation for screen readers; on screen its line is dashed. */
const undoing = ({ ask }) => (ask?.undoes ? el("span", { class: "unseen" }, "compensation: ") : null);

/** Returns the time at which an order came to rest, in milliseconds since it began; null before that. */
export function rested({ at_rest: rests, steps }) {
  if (!rests) return null;
  const all = steps.flatMap((step) => (step.ask?.answer ? [step, step.ask.answer] : [step]));
  const ends = all.filter(({ type }) => ENDS.includes(plain(type)));
  return (ends.at(-1) ?? all.at(-1))?.ms ?? null;
}

/** Returns the number of an order's messages. */
export const messages = ({ steps }) =>
  steps.reduce((sum, { ask }) => sum + (ask ? ask.attempts + (ask.answer ? 1 : 0) : 1), 0);

/** Returns the steps in a row, each by its outcome. */
export function timeline(steps) {
  const items = steps.slice(0, FEW).map((step) => {
    const { type, source, ms, ask } = step;
    const text = !ask ? said(type) : ask.answer ? said(ask.answer.type) : BEGUN[ask.about] ?? `${asked(step)}${isAwaited(step) ? "…" : ""}`;
    const title = ask ? `${plain(type)}, sent to ${ask.of}` : `${plain(type)}, published by ${source}`;
    return el("li", { "data-source": ask?.of ?? source, "data-undoes": String(Boolean(ask?.undoes)), title },
      undoing(step), text, ask ? times(ask) : "", " ", el("span", {}, String(ask?.answer?.ms ?? ms)));
  });
  if (steps.length > FEW) items.push(el("li", {}, `and ${steps.length - FEW} more`));
  return el("ol", { class: "timeline" }, ...items);
}

/** Returns the steps in a column, to be compared with another order's. */
export function column(steps) {
  const items = steps.map((step) => {
    const { type, source, ms, ask } = step;
    const what = !ask ? said(type) : ask.answer ? `${asked(step)} → ${said(ask.answer.type)}` : `${asked(step)}${isAwaited(step) ? "…" : ""}`;
    const who = !ask ? `published by ${source}`
      : ask.answer ? `sent to ${ask.of}${times(ask)}, answered after ${duration(Math.max(0, ask.answer.ms - ms))}` : `sent to ${ask.of}${times(ask)}`;
    return el("li", { "data-source": ask?.of ?? source, "data-undoes": String(Boolean(ask?.undoes)) },
      el("span", { class: "number" }, String(ms)), el("span", {}, undoing(step), what), el("span", { class: "fine" }, who));
  });
  return el("ol", { class: "column" }, ...items);
}

/** Returns the steps in full, as a table. */
export function table(steps, isOrchestrated) {
  const cell = (text, kind) => el("td", { role: "cell", class: kind }, text);
  const rows = steps.map(({ type, source, at, ms, ask }) => {
    const row = (...cells) => el("tr", { role: "row", "data-undoes": String(Boolean(ask?.undoes)) }, cell(String(ms), "number"), ...cells);
    if (!isOrchestrated) return row(cell(plain(type)), cell(source), cell(clock(at)));
    // In words, which fit a phone.
    if (!ask) return row(cell(`message: ${spelt(type)}`), cell(source), cell(""), cell(clock(at), "at"));
    const what = `${ask.undoes ? "compensation: " : ""}${words(plain(type).replace(/^.*?\./, ""))}${ask.about ? `, ${words(ask.about)}` : ""}`;
    const answer = ask.answer ? `${spelt(ask.answer.type)} at ${ask.answer.ms} ms` : isAwaited({ ask }) ? "not yet" : "";
    return row(cell(what), cell(`${ask.of}${times(ask)}`), cell(answer), cell(clock(at), "at"));
  });
  const head = isOrchestrated ? ["ms", "command", "to", "reply", "at"] : ["ms", "event", "source", "at"];
  return el("table", { role: "table", class: isOrchestrated ? "events asks" : "events" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
      ...head.map((text) => el("th", { role: "columnheader", scope: "col", class: text === "at" ? "at" : null }, text)))),
    el("tbody", { role: "rowgroup" }, ...rows));
}
