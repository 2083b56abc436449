// The services' health.
import { byId, el } from "./dom.js";

let shown = "";

export function show({ services }) {
  const text = JSON.stringify(services);
  if (text === shown) return;
  shown = text;
  byId("services").replaceChildren(...services.map(chip));
}

function chip({ name, ready, checks, paused }) {
  const down = Object.entries(checks ?? {}).filter(([, state]) => state !== "up").map(([check]) => check);
  const said = ready ? "ready" : down.length > 0 ? `not ready: ${down.join("; ")}` : "does not answer";
  const count = paused?.length ?? 0;
  const waits = count > 0 ? `, ${count} paused` : "";
  return el("li", { "data-ready": String(ready), "data-paused": String(count > 0) },
    el("strong", {}, name), ` ${said}${waits}`);
}
