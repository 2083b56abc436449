// One order in the table: its line, and its details once they are opened.
import * as api from "./api.js";
import { during, duration, el, money, shortId, words } from "./dom.js";
import { SagasOf } from "./sagas.js";
import { rested, table, timeline } from "./steps.js";

const cell = (label, kind) => el("td", { role: "cell", "data-label": label, class: kind });

/** An order's way, by its coordination. */
export const WAYS = { choreography: "choreographed", orchestration: "orchestrated" };

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
    this.about = el("p", {});
    this.table = el("div", {});
    this.sagas = new SagasOf(id);
    this.detailsRow = el("tr", { role: "row", hidden: true, id: detailsId, class: "details" },
      el("td", { role: "cell", colspan: "5" }, this.about, this.table, this.sagas.root));
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
    const { state, at_rest: rests, stuck, steps, coordination } = line;
    Object.assign(this.body.dataset, { state, rest: String(rests), mine: String(isMine), stuck: String(stuck), way: coordination });
    this.customer.replaceChildren(el("strong", {}, line.customer), isMine ? el("span", { class: "tag" }, "yours") : "",
      el("span", { class: "way" }, WAYS[coordination] ?? coordination));
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
    const isOrchestrated = line.coordination === "orchestration";
    const url = line.trace_id && settings.trace_url?.replace("{trace_id}", line.trace_id);
    // Replaced only if it differs: its link may have the focus.
    const about = JSON.stringify([line.trace_id, url]);
    if (about !== this.aboutShown) {
      this.aboutShown = about;
      this.about.replaceChildren("Order ", el("code", {}, id), `, ${WAYS[line.coordination] ?? line.coordination}. `,
        url ? el("a", { href: url, target: "_blank", rel: "noopener" }, "Open its trace")
          : line.trace_id ? el("span", {}, "Trace ", el("code", {}, line.trace_id)) : "");
    }
    this.table.replaceChildren(table(line.steps, isOrchestrated));
    if (isOrchestrated) this.sagas.load();
  }

  undo() {
    this.outcomeRow.hidden = false;
    return during(this.cancel, this.outcome, async () => {
      await api.cancelOrder(this.id, this.line.customer);
      // The new state hides the button, so the focus goes to its neighbour.
      if (document.activeElement === this.cancel) this.toggle.focus();
      return "The order is cancelled, or is being cancelled.";
    });
  }
}

/** Returns a description of an order's state. */
export function end(line) {
  const why = line.reason ? `${words(line.reason)}; ` : "";
  if (line.stuck) return `${why}stuck: waits for an operator`;
  if (!line.at_rest) return `${why}under way`;
  const ms = rested(line);
  return `${why}at rest${ms === null ? "" : ` in ${duration(ms)}`}`;
}
