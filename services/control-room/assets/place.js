// The form that places an order, or the same one each way. Its idempotency key makes it safe to resend.
import * as api from "./api.js";
import { byId, during, el, money, say, shortId } from "./dom.js";
import { mine } from "./orders.js";
import { compare } from "./pair.js";
import { WAYS } from "./row.js";

const FIELDS = ["customer", "sku", "quantity", "payment", "coordination"];
/** The orders that were sent last: one or two, each with its key. */
let last = [];

export function begin() {
  byId("place-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const way = byId("coordination").value;
    const ways = way === "both" ? Object.keys(WAYS) : [way];
    last = ways.map((coordination) => ({ ...read(), coordination, idempotency_key: api.uuid() }));
    send(event.submitter ?? byId("place-form").querySelector(".primary"), false);
  });
  byId("again").addEventListener("click", (event) => send(event.currentTarget, true));
}

export function apply({ demo, products }) {
  byId("place-form").hidden = !demo;
  byId("no-place").hidden = demo;
  const before = byId("sku").value || "TEA-EARL-GREY";
  byId("sku").replaceChildren(...products.map(({ sku, name, price }) =>
    el("option", { value: sku, selected: sku === before }, `${name}: ${money(price)}`)));
}

function read() {
  const payment = byId("payment").value;
  return {
    customer: byId("customer").value.trim(),
    // An input that is not a number is sent as well: the order service says what is valid.
    lines: [{ sku: byId("sku").value, quantity: byId("quantity").valueAsNumber }],
    payment: payment === "wallet" ? { method: "wallet" } : { method: "card", token: payment },
  };
}

function send(button, isAgain) {
  clearErrors();
  return during(button, byId("place-outcome"), async () => {
    const answers = await Promise.allSettled(last.map(api.placeOrder));
    const orders = answers.flatMap(({ value }) => (value ? [value] : []));
    for (const { id } of orders) mine(id);
    const error = answers.find(({ reason }) => reason)?.reason;
    if (error) {
      blame(error);
      // After a lost response the same key returns the order; after a refusal there is nothing to resend.
      byId("again").disabled = error instanceof api.Refused && error.status < 500;
      throw error;
    }
    byId("again").disabled = false;
    byId("place-outcome").dataset.order = orders.map(({ id }) => id).join(" ");
    const [first, second] = orders;
    if (second) {
      compare(orders.map(({ coordination, id }) => [coordination, id]));
      const names = orders.map(({ coordination, id }) => `…${shortId(id)} (${WAYS[coordination]})`).join(" and ");
      return isAgain ? `Again orders ${names}: the same keys return the same orders.`
        : `Orders ${names} are accepted, ${money(first.amount)} each: see them side by side.`;
    }
    return isAgain
      ? `Again order …${shortId(first.id)}: the same key returns the same order.`
      : `Order …${shortId(first.id)} is accepted: ${money(first.amount)}.`;
  });
}

/** Shows each field's error at the field, and puts the focus on the first. */
function blame(error) {
  let first = null;
  for (const { field, detail } of error.fields ?? []) {
    const known = FIELDS.find((name) => field.includes(name));
    if (!known) continue;
    say(byId(`${known}-error`), api.within(field, detail));
    byId(known).setAttribute("aria-invalid", "true");
    first ??= byId(known);
  }
  first?.focus();
}

function clearErrors() {
  for (const name of FIELDS) {
    say(byId(`${name}-error`), "");
    byId(name).removeAttribute("aria-invalid");
  }
}
