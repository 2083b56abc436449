// Calls of the control room's API. All paths are relative, so that the page works behind any prefix.

/** A request that the server refused, with the fields that its problem+json names. */
export class Refused extends Error {
  constructor(status, problem) {
    const fields = (problem.errors ?? []).map(({ field, detail }) => within(field, detail));
    super(fields.join("; ") || problem.detail || problem.title || `the control room answered ${status}`);
    this.status = status;
    this.fields = problem.errors ?? [];
  }
}

/** Returns a detail that begins with its field, and without the place in the JSON, which visitors never see. */
export function within(field, detail) {
  const plain = detail.replace(/ at line \d+ column \d+$/, "");
  return plain.startsWith(field) ? plain : `${field}: ${plain}`;
}

async function call(method, path, body) {
  const request = { method, headers: { accept: "application/json" }, cache: "no-store" };
  if (method !== "GET") {
    // Also without a body: the server requires this type, because another site cannot make a browser send it.
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify(body ?? {});
  }
  let response;
  try {
    response = await fetch(path, request);
  } catch {
    throw new Error("The control room does not answer. The request may or may not have been carried out.");
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = text === "" ? null : JSON.parse(text);
  } catch {
    answer = { detail: text.slice(0, 200) };
  }
  if (!response.ok) throw new Refused(response.status, answer ?? {});
  return answer;
}

const name = encodeURIComponent;

export const config = () => call("GET", "room/config");
export const sagasOf = (id) => call("GET", `room/orders/${name(id)}/sagas`);
export const order = (id) => call("GET", `room/orders/${name(id)}`);
export const placeOrder = (body) => call("POST", "room/orders", body);
export const cancelOrder = (id, customer) => call("POST", `room/orders/${name(id)}/cancel`, { customer });
export const turnKnobs = (knobs) => call("PUT", "room/card-processor", knobs);
export const poison = (kind) => call("POST", "room/poison", { kind });
export const crash = (service, failpoint) => call("POST", `room/services/${name(service)}/crash`, { failpoint });
export const queue = (service, which, deed) =>
  call("POST", `room/services/${name(service)}/queues/${name(which)}/${deed}`);
export const drills = () => call("GET", "room/drills");
export const drill = (which) => call("POST", `room/drills/${name(which)}`);
export const parked = () => call("GET", "room/parked");
export const parkedMessage = (service, id) => call("GET", `room/parked/${name(service)}/${name(id)}`);
export const editParked = (service, id, body) => call("PUT", `room/parked/${name(service)}/${name(id)}`, body);
export const endParked = (service, id, deed, note) =>
  call("POST", `room/parked/${name(service)}/${name(id)}/${deed}`, { note });
export const stuck = () => call("GET", "room/stuck");
export const endStuck = (id, deed, body) => call("POST", `room/stuck/${name(id)}/${deed}`, body);
export const stuckSagas = () => call("GET", "room/sagas");
export const saga = (id) => call("GET", `room/sagas/${name(id)}`);
export const endSaga = (id, deed, note) => call("POST", `room/sagas/${name(id)}/${deed}`, { note });

/** Returns a random UUID. `crypto.randomUUID` exists only on https and localhost, and the page may be on neither. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
