// Orders of which nobody knows how to go on: an operator asks again, writes a part off, or cancels.
import * as api from "./api.js";
import { byId, clock, during, el, money, say, shortId, words } from "./dom.js";

const items = new Map();
let known = null;

export function count({ stuck }) {
  if (stuck === known) return;
  known = stuck;
  reload();
}

async function reload() {
  let answer;
  try {
    answer = await api.stuck();
  } catch {
    // What is shown stays; the next count asks again.
    known = null;
    return;
  }
  const orders = answer.orders ?? answer;
  const ids = new Set(orders.map(({ id }) => id));
  for (const [id, item] of items) {
    if (!ids.has(id) && !item.contains(document.activeElement)) {
      item.remove();
      items.delete(id);
    }
  }
  for (const order of orders) {
    if (items.has(order.id)) continue;
    const item = view(order);
    items.set(order.id, item);
    byId("stuck-list").append(item);
  }
  say(byId("stuck-count"), orders.length > 0 ? String(orders.length) : "");
  byId("no-stuck").hidden = items.size > 0;
  say(byId("no-stuck"), "None: every order goes on by itself.");
}

function view({ id, customer, amount, state, reason, updated_at: at }) {
  const note = el("input", { id: `note-${id}`, maxlength: "500", placeholder: "why" });
  const outcome = el("p", { class: "outcome", role: "status" });
  const part = (name) => el("label", { class: "check" }, el("input", { type: "checkbox", value: name }), ` ${name}`);
  const parts = el("fieldset", {}, el("legend", {}, "To write off, if you settle"), part("payment"), part("inventory"));
  const deed = (name, what, more = () => ({})) => el("button", {
    type: "button",
    onclick: (event) => during(event.currentTarget, outcome, async () => {
      if (note.value.trim() === "") {
        note.focus();
        throw new Error("Please say why, in the note: it is kept with your name.");
      }
      await api.endStuck(id, name.toLowerCase(), { note: note.value.trim(), ...more() });
      known = null;
      return what;
    }),
  }, name);
  const participants = () => ({ participants: [...parts.querySelectorAll(":checked")].map(({ value }) => value) });
  return el("details", { class: "item", "data-stuck": id },
    el("summary", {}, el("strong", {}, `${customer}, ${money(amount)}`), ` ${state}${reason ? `: ${words(reason)}` : ""}`,
      el("span", { class: "fine" }, ` …${shortId(id)}, since ${clock(at)}`)),
    el("div", { class: "editor" }, parts, el("label", { for: note.id }, "Note"), note,
      el("div", { class: "buttons" },
        deed("Resume", "Asked again."), deed("Settle", "It is being written off.", participants), deed("Cancel", "It is being cancelled.")),
      outcome));
}
