// The rules that must hold between the services' databases, with the room's last verdicts.
import { byId, clock, el, say } from "./dom.js";

const ORDER = { broken: 0, waits: 1, holds: 2 };
let shown = "";

export function show({ checked_at, checks }) {
  const count = (verdict) => checks.filter((check) => check.verdict === verdict).length;
  const broken = count("broken");
  const waiting = count("waits");
  const verdict = broken > 0 ? "broken" : waiting > 0 ? "waits" : "holds";
  const text = {
    broken: `${broken} of ${checks.length} rules are broken`,
    waits: `${count("holds")} rules hold; ${waiting} wait for what is in flight`,
    holds: `All ${checks.length} rules hold`,
  }[verdict];
  byId("verdict").dataset.verdict = verdict;
  say(byId("verdict"), text);
  byId("verdict").title = `compared at ${clock(checked_at)}`;
  const now = JSON.stringify(checks);
  if (now === shown) return;
  shown = now;
  const sorted = [...checks].sort((a, b) => ORDER[a.verdict] - ORDER[b.verdict]);
  byId("checks").replaceChildren(...sorted.map(({ name, what, verdict: word, detail }) =>
    el("li", { "data-verdict": word, "data-check": name },
      el("span", { class: "word" }, word),
      el("span", { class: "what" }, what),
      detail ? el("span", { class: "fine" }, detail) : null)));
}
