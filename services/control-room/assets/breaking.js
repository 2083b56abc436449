// The controls that break things. Each shows the current state, as the services report it.
import * as api from "./api.js";
import { byId, during, el, say, shortId } from "./dom.js";
import { mine } from "./orders.js";
import { reload } from "./parked.js";

const NORMAL = { latency_min_ms: 20, latency_max_ms: 80, fail_before: 0, fail_after: 0, decline: 0 };
const PRESETS = [
  { name: "Normal", what: "It works normally.", knobs: NORMAL },
  { name: "Fails", what: "Every request fails before anything is done.", knobs: { ...NORMAL, fail_before: 1 } },
  { name: "Loses answers", what: "Every request is carried out, and its answer is lost.", knobs: { ...NORMAL, fail_after: 1 } },
  { name: "Declines", what: "Every card is declined.", knobs: { ...NORMAL, decline: 1 } },
  { name: "Is slow", what: "A decision takes 3 to 6 s.", knobs: { ...NORMAL, latency_min_ms: 3000, latency_max_ms: 6000 } },
];

const queues = new Map();
let services = [];

export function begin() {
  byId("presets").replaceChildren(...PRESETS.map(({ name, what, knobs }) =>
    el("button", {
      type: "button", "aria-pressed": "false", "data-preset": name, title: what,
      onclick: (event) => act(event, async () => {
        await api.turnKnobs(knobs);
        return `Card processor: ${what}`;
      }),
    }, name)));
  byId("crash-service").addEventListener("change", points);
  byId("crash-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const [service, point] = [byId("crash-service").value, byId("crash-point").value];
    during(event.submitter ?? event.target.querySelector("button"), byId("break-outcome"), async () => {
      await api.crash(service, point);
      return `${service} aborts when it next reaches ${point}. Place an order.`;
    });
  });
  for (const button of document.querySelectorAll("[data-poison]")) {
    button.addEventListener("click", (event) => act(event, async () => {
      const { queue, order_id: order } = await api.poison(button.dataset.poison);
      reload();
      if (order) mine(order);
      return order
        ? `The event of order …${shortId(order)} was damaged on its way to ${queue}: it is parked, and the order waits.`
        : `Bytes that are not a message were sent to ${queue}.`;
    }));
  }
}

const act = (event, deed) => during(event.currentTarget, byId("break-outcome"), deed);

export function apply(config) {
  byId("no-break").hidden = config.demo;
  byId("break-body").hidden = !config.demo;
  services = config.services.filter(({ failpoints }) => failpoints.length > 0);
  const none = services.length === 0;
  const before = byId("crash-service").value;
  byId("crash-service").replaceChildren(...(none ? [el("option", {}, "this build has no failpoints")]
    : services.map(({ name }) => el("option", { value: name, selected: name === before }, name))));
  for (const control of byId("crash-form").querySelectorAll("select, button")) control.disabled = none;
  points();
  for (const { name: service, queues: names } of config.services) {
    for (const name of names) if (!queues.has(name)) queues.set(name, row(service, name));
  }
  byId("queues").replaceChildren(...[...queues.values()].map(({ item }) => item));
}

function points() {
  const service = services.find(({ name }) => name === byId("crash-service").value);
  byId("crash-point").replaceChildren(...(service?.failpoints ?? []).map((point) => el("option", { value: point }, point)));
}

function row(service, name) {
  const button = el("button", {
    type: "button", "data-queue": name,
    onclick: (event) => act(event, async () => {
      const deed = button.dataset.paused === "true" ? "resume" : "pause";
      await api.queue(service, name, deed);
      paused(name, deed === "pause");
      return deed === "pause" ? `${name} is paused: its messages wait.` : `${name} is resumed.`;
    }),
  });
  const state = el("span", { class: "fine" });
  const item = el("li", {}, el("code", {}, name), state, button);
  const known = { item, button, state, service };
  queues.set(name, known);
  paused(name, false);
  return known;
}

function paused(name, isPaused) {
  const { item, button, state } = queues.get(name);
  item.dataset.paused = String(isPaused);
  button.dataset.paused = String(isPaused);
  button.setAttribute("aria-label", `${isPaused ? "Resume" : "Pause"} ${name}`);
  say(button, isPaused ? "Resume" : "Pause");
  say(state, isPaused ? "paused" : "consumed");
}

/** Shows the state that the services report. */
export function show({ services: standing, card_processor: knobs }) {
  for (const { name: service, paused: names } of standing) {
    for (const [name, { service: owner, state }] of queues) {
      if (owner !== service) continue;
      if (names) paused(name, names.includes(name));
      else say(state, `not known: ${service} does not answer`);
    }
  }
  say(byId("knobs"), knobs ? describe(knobs) : "The card processor does not answer.");
  for (const button of byId("presets").children) {
    const preset = PRESETS.find(({ name }) => name === button.dataset.preset);
    const isNow = knobs && Object.entries(preset.knobs).every(([knob, value]) => knobs[knob] === value);
    button.setAttribute("aria-pressed", String(Boolean(isNow)));
  }
}

function describe({ latency_min_ms: min, latency_max_ms: max, fail_before, fail_after, decline }) {
  const share = (value, what) => (value > 0 ? [`${what} ${Math.round(value * 100)} %`] : []);
  const faults = [...share(fail_before, "fails"), ...share(fail_after, "loses the answer of"), ...share(decline, "declines")];
  return `Now: decides in ${min} to ${max} ms; ${faults.join(", ") || "nothing is broken"}.`;
}
