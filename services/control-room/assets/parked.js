// Parked messages: shown, edited, requeued, or dropped with a note.
import * as api from "./api.js";
import { byId, clock, during, el, say, shortId } from "./dom.js";

/** The list is loaded again when the counts, which come every two seconds, differ; and after so many counts anyhow. */
const ANYHOW = 5;
const items = new Map();
let known = null;
let heard = 0;

export function count({ parked, quarantined }) {
  byId("quarantined").hidden = quarantined === 0;
  say(byId("quarantined"), `${quarantined} more, which the broker refused, are in quarantine (GET /operator/outbox).`);
  heard += 1;
  if (parked === known && (parked === 0 || heard % ANYHOW !== 0)) return;
  known = parked;
  reload();
}

export async function reload() {
  let messages;
  try {
    messages = await api.parked();
  } catch {
    // The list stays as it is; the next count loads it again.
    known = null;
    return;
  }
  const ids = new Set(messages.map(({ id }) => id));
  for (const [id, item] of items) {
    if (!ids.has(id) && !item.contains(document.activeElement)) {
      item.remove();
      items.delete(id);
    }
  }
  for (const message of messages) {
    if (items.has(message.id)) continue;
    const item = view(message);
    items.set(message.id, item);
    byId("parked-list").append(item);
  }
  say(byId("parked-count"), messages.length > 0 ? String(messages.length) : "");
  byId("no-parked").hidden = items.size > 0;
  say(byId("no-parked"), "None: no message waits for an operator.");
}

function view(message) {
  const { service, id, cause, detail, subject, type, parked_at: at } = message;
  const body = el("div", {});
  const item = el("details", { "data-parked": id, "data-order": subject, class: "item" },
    el("summary", {}, el("strong", {}, type ?? "not a message"), ` in ${service}: ${cause}`,
      el("span", { class: "fine" }, ` ${clock(at)}${subject ? `, order …${shortId(subject)}` : ""}`)),
    el("p", { class: "fine" }, detail), body);
  let loaded = false;
  item.addEventListener("toggle", async () => {
    if (!item.open || loaded) return;
    loaded = true;
    try {
      body.replaceChildren(editor(message, await api.parkedMessage(service, id), item));
    } catch (error) {
      loaded = false;
      body.replaceChildren(el("p", { class: "error" }, error.message));
    }
  });
  return item;
}

/** Returns the editor of a message. An edit changes only the payload; the service checks it. */
function editor({ service, id }, { data, text, headers }, item) {
  const isJson = data !== null && data !== undefined;
  const area = el("textarea", {
    id: `edit-${id}`, rows: "14", spellcheck: "false", readonly: !isJson, "aria-describedby": `outcome-${id}`,
  });
  area.value = isJson ? JSON.stringify(data, null, 2) : text ?? "";
  const note = el("input", { id: `note-${id}`, value: "", maxlength: "500", placeholder: "why", required: true });
  const outcome = el("p", { class: "outcome", id: `outcome-${id}`, role: "status" });
  const why = () => {
    if (note.value.trim() === "") {
      note.focus();
      throw new Error("Please say why in the note, which is kept with your name.");
    }
    return note.value.trim();
  };
  const save = async () => {
    let payload;
    try {
      payload = JSON.parse(area.value);
    } catch (error) {
      area.focus();
      throw new Error(`This is not valid JSON: ${error.message}`);
    }
    await api.editParked(service, id, { note: why(), data: payload });
  };
  const end = (word) => {
    for (const control of item.querySelectorAll("button, textarea, input")) control.disabled = true;
    item.dataset.ended = word;
    item.querySelector("summary").focus();
    reload();
  };
  const button = (name, deed, kind) =>
    el("button", { type: "button", class: kind, "data-deed": name, onclick: (event) => during(event.currentTarget, outcome, deed) }, name);
  const requeue = async () => {
    await api.endParked(service, id, "requeue", why());
    end("requeued");
    return "Requeued: it will be handled again.";
  };
  const buttons = isJson
    ? [button("Save edit", async () => { await save(); return "Saved. Requeue it to have it handled again."; }, "primary"),
       button("Requeue", requeue)]
    : [];
  buttons.push(button("Drop", async () => {
    await api.endParked(service, id, "drop", why());
    end("dropped");
    return "Dropped. An order that depends on it becomes stuck.";
  }));
  const heads = Object.entries(headers).map(([name, value]) => `${name}: ${value}`).join("\n");
  return el("div", { class: "editor" },
    el("label", { for: area.id }, isJson ? "Payload: edit it here" : "Payload: not JSON, so it can only be dropped"), area,
    heads ? el("details", {}, el("summary", {}, "Headers"), el("pre", {}, heads)) : null,
    el("label", { for: note.id }, "Note"), note, el("div", { class: "buttons" }, ...buttons), outcome);
}
