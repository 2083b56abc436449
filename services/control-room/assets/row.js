// One order in the table: its line, and its details once somebody opens them.
import * as api from "./api.js";
import { clock, during, duration, el, money, shortId, words } from "./dom.js";

/** Events by the word that fits a narrow column; others go by their own name. */
const SHORT = {
  "order.created": "created", "order.confirmed": "confirmed", "order.cancelling": "cancelling", "order.cancelled": "cancelled",
  "order.settling": "settling", "payment.completed": "paid", "payment.declined": "declined", "payment.refunded": "refunded", "payment.nothing_to_undo": "nothing paid",
  "inventory.reserved": "reserved", "inventory.rejected": "out of stock", "inventory.committed": "sold",
  "inventory.released": "released", "inventory.nothing_to_undo": "nothing reserved",
};
/** Steps that a line shows; an order that is asked for again and again has many. */
const STEPS = 8;

const plain = (type) => type.replace(/\.v\d+$/, "");
const short = (type) => SHORT[plain(type)] ?? words(plain(type).replace(".", " "));

const cell = (label, kind) => el("td", { role: "cell", "data-label": label, class: kind });

export class Row {
  constructor(id) {
    this.id = id;
    this.isOpen = false;
    this.shown = "";
    this.customer = cell("Customer", "customer");
    this.amount = cell("Amount", "number");
    this.state = cell("State", "state");
    this.steps = cell("Steps", "steps");
    const detailsId = `details-${id}`;
    this.toggle = el("button", { type: "button", "aria-expanded": "false", "aria-controls": detailsId, onclick: () => this.open() }, "Details");
    this.cancel = el("button", { type: "button", onclick: () => this.undo() }, "Cancel");
    this.outcome = el("p", { class: "outcome", role: "status" });
    const deeds = cell("", "deeds");
    deeds.append(this.toggle, this.cancel);
    this.details = el("div", {});
    this.detailsRow = el("tr", { role: "row", hidden: true, id: detailsId, class: "details" },
      el("td", { role: "cell", colspan: "5" }, this.details));
    this.outcomeRow = el("tr", { role: "row", hidden: true, class: "details" }, el("td", { role: "cell", colspan: "5" }, this.outcome));
    const line = el("tr", { role: "row" }, this.customer, this.amount, this.state, this.steps, deeds);
    this.body = el("tbody", { role: "rowgroup", "data-order": id }, line, this.outcomeRow, this.detailsRow);
  }

  show(line, settings, isMine = this.body.dataset.mine === "true") {
    if (!line) return;
    this.line = line;
    this.settings = settings;
    const text = JSON.stringify([line, settings.trace_url, settings.demo, isMine]);
    if (text === this.shown) return;
    this.shown = text;
    const { state, reason, at_rest: rests, stuck, steps } = line;
    Object.assign(this.body.dataset, { state, rest: String(rests), mine: String(isMine), stuck: String(stuck) });
    this.customer.replaceChildren(el("strong", {}, line.customer), isMine ? el("span", { class: "tag" }, "yours") : "");
    this.amount.replaceChildren(money(line.amount), el("span", { class: "fine" }, ` ${line.payment}, ${line.items}×`));
    this.state.replaceChildren(el("span", { class: "badge" }, state),
      el("span", { class: "fine" }, end(line)));
    this.steps.replaceChildren(timeline(steps));
    this.toggle.setAttribute("aria-label", `Details of ${line.customer}’s order …${shortId(this.id)}`);
    this.cancel.setAttribute("aria-label", `Cancel ${line.customer}’s order …${shortId(this.id)}`);
    this.cancel.hidden = !settings.demo || state === "cancelled" || state === "cancelling";
    if (this.isOpen) this.detail();
  }

  open() {
    this.isOpen = !this.isOpen;
    this.toggle.setAttribute("aria-expanded", String(this.isOpen));
    this.detailsRow.hidden = !this.isOpen;
    if (this.isOpen) this.detail();
  }

  detail() {
    const { id, line, settings } = this;
    const rows = line.steps.map(({ type, source, at, ms }) =>
      el("tr", { role: "row" }, el("td", { role: "cell", class: "number" }, String(ms)), el("td", { role: "cell" }, plain(type)),
        el("td", { role: "cell" }, source), el("td", { role: "cell" }, clock(at))));
    const head = ["ms", "event", "said by", "at"].map((text) => el("th", { role: "columnheader", scope: "col" }, text));
    const url = line.trace_id && settings.trace_url?.replace("{trace_id}", line.trace_id);
    this.details.replaceChildren(
      el("p", {}, "Order ", el("code", {}, id), `, ${line.coordination}. `,
        url ? el("a", { href: url, target: "_blank", rel: "noopener" }, "Open its trace")
          : line.trace_id ? el("span", {}, "Trace ", el("code", {}, line.trace_id)) : ""),
      el("table", { role: "table", class: "events" }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
        el("tbody", { role: "rowgroup" }, ...rows)));
  }

  undo() {
    this.outcomeRow.hidden = false;
    return during(this.cancel, this.outcome, async () => {
      await api.cancelOrder(this.id, this.line.customer);
      // The button goes with the state; whoever pressed it goes on from its neighbour.
      if (document.activeElement === this.cancel) this.toggle.focus();
      return "Asked: it is undone, or is being undone.";
    });
  }
}

/** What its state means, in words. */
function end({ state, reason, at_rest: rests, stuck, steps }) {
  const why = reason ? words(reason) : "";
  if (stuck) return `${why ? `${why}; ` : ""}stuck: waits for an operator`;
  if (!rests) return why ? `${why}; under way` : "under way";
  const took = steps.length > 0 ? ` in ${duration(steps.at(-1).ms)}` : "";
  return `${why ? `${why}; ` : ""}at rest${took}`;
}

function timeline(steps) {
  const items = steps.slice(0, STEPS).map(({ type, source, ms }) =>
    el("li", { "data-source": source, title: `${plain(type)}, said by ${source}` }, short(type), " ", el("span", {}, String(ms))));
  if (steps.length > STEPS) items.push(el("li", {}, `and ${steps.length - STEPS} more`));
  return el("ol", { class: "timeline" }, ...items);
}
