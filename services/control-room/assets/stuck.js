// Stuck orders and sagas: an operator resumes them, writes a part off, or cancels.
import * as api from "./api.js";
import { byId, clock, during, el, money, say, shortId, words } from "./dom.js";
import { SagaView, asks } from "./sagas.js";

/** The items by id, each with the data that it shows. */
const items = new Map();
let known = null;

export function count({ stuck, stuck_sagas: sagas }) {
  const now = `${stuck} ${sagas}`;
  // An item that was acted on may be stuck again, with the same counts.
  const isDecided = [...items.values()].some(({ item }) => item.dataset.ended);
  if (now === known && !isDecided) return;
  known = now;
  reload();
}

async function reload() {
  let orders;
  let sagas;
  try {
    [orders, sagas] = await Promise.all([api.stuck(), api.stuckSagas()]);
  } catch {
    // The list stays as it is; the next count loads it again.
    known = null;
    return;
  }
  const listed = [...orders.map((order) => [order, ofOrder]), ...sagas.map((saga) => [saga, ofSaga])];
  const ids = new Set(listed.map(([{ id }]) => id));
  for (const [id, { item }] of items) {
    if (!ids.has(id) && !item.contains(document.activeElement)) {
      item.remove();
      items.delete(id);
    }
  }
  for (const [one, view] of listed) {
    const text = JSON.stringify(one);
    const before = items.get(one.id);
    if (before && (before.text === text || before.item.contains(document.activeElement))) continue;
    const item = view(one);
    items.set(one.id, { item, text });
    if (before) before.item.replaceWith(item);
    else byId("stuck-list").append(item);
  }
  say(byId("stuck-count"), listed.length > 0 ? String(listed.length) : "");
  byId("no-stuck").hidden = items.size > 0;
  say(byId("no-stuck"), "None: no order and no saga waits for an operator.");
}

/** Returns a note, and a button for each operator action: its name, title, outcome and call. */
function decision(item, id, deeds) {
  const note = el("input", { id: `note-${id}`, maxlength: "500", placeholder: "why" });
  const outcome = el("p", { class: "outcome", role: "status" });
  const buttons = deeds.map(([name, title, what, decide]) => el("button", {
    type: "button", "data-deed": name, title,
    onclick: (event) => during(event.currentTarget, outcome, async () => {
      if (note.value.trim() === "") {
        note.focus();
        throw new Error("Please say why in the note, which is kept with your name.");
      }
      await decide(note.value.trim());
      item.dataset.ended = name;
      return what;
    }),
  }, name));
  return [el("label", { for: note.id }, "Note"), note, el("div", { class: "buttons" }, ...buttons), outcome];
}

function ofOrder({ id, customer, coordination, amount, state, reason, updated_at: at }) {
  const item = el("details", { class: "item", "data-stuck": id },
    el("summary", {}, el("strong", {}, `${customer}, ${money(amount)}`), ` ${state}${reason ? `: ${words(reason)}` : ""}`,
      el("span", { class: "fine" }, ` …${shortId(id)}, since ${clock(at)}`)));
  const deed = (name, title, what, more = () => ({})) =>
    [name, title, what, (note) => api.endStuck(id, name.toLowerCase(), { note, ...more() })];
  const resume = deed("Resume", "Resend what it waits for", "Resent.");
  const cancel = deed("Cancel", "Cancel it, if it is not confirmed", "It is being cancelled.");
  if (coordination === "orchestration") {
    item.append(el("div", { class: "editor" }, el("p", { class: "fine" }, "Its saga does not answer. What cannot be undone is written off at the saga."),
      ...decision(item, id, [resume, cancel])));
    return item;
  }
  const part = (name) => el("label", { class: "check" }, el("input", { type: "checkbox", value: name }), ` ${name}`);
  const parts = el("fieldset", {}, el("legend", {}, "To write off when you settle"), part("payment"), part("inventory"));
  const participants = () => ({ participants: [...parts.querySelectorAll(":checked")].map(({ value }) => value) });
  const settle = deed("Settle", "Write off what is ticked", "It is being written off.", participants);
  item.append(el("div", { class: "editor" }, parts, ...decision(item, id, [resume, settle, cancel])));
  return item;
}

function ofSaga(saga) {
  const { id, definition, order_id: order, phase, step, direction, attempt, stuck_since: since } = saga;
  const where = step ? ` at ${asks({ step, asked: direction })}, ${attempt}×` : "";
  const item = el("details", { class: "item", "data-saga": id, "data-order": order, "data-phase": phase },
    el("summary", {}, el("strong", {}, `Saga ${words(definition)}`), ` ${phase}${where}`,
      el("span", { class: "fine" }, ` order …${shortId(order)}${since ? `, since ${clock(since)}` : ""}`)));
  const view = new SagaView();
  const deed = (name, title, what) => [name, title, what, async (note) => view.show(await api.endSaga(id, name.toLowerCase(), note))];
  const resume = deed("Resume", "Resend this step, and count its attempts from the first", "Resent.");
  const deeds = phase === "broken" ? [resume] : [resume,
    deed("Skip", "Have its service write this step off, and go on", "This step is being written off."),
    deed("Abandon", "Have all that remains written off, and end the saga", "What remains is being written off.")];
  const failed = el("p", { class: "error" });
  item.append(el("div", { class: "editor" }, view.root, failed, ...decision(item, id, deeds)));
  item.addEventListener("toggle", async () => {
    if (!item.open) return;
    try {
      view.show(await api.saga(id));
      say(failed, "");
    } catch (refused) {
      say(failed, refused.message);
    }
  });
  return item;
}
