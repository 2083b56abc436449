// The page's entry point: loads the configuration, and hands the stream's events to the modules that show them.
import * as api from "./api.js";
import * as books from "./books.js";
import * as breaking from "./breaking.js";
import { byId, el, say } from "./dom.js";
import * as drills from "./drills.js";
import * as health from "./health.js";
import { listen } from "./live.js";
import * as orders from "./orders.js";
import * as pair from "./pair.js";
import * as parked from "./parked.js";
import * as place from "./place.js";
import * as stuck from "./stuck.js";

const CONFIG_AGAIN_MS = 3000;

function apply(config) {
  byId("links").replaceChildren(
    ...config.links.map(({ name, url, what }) =>
      el("li", {}, el("a", { href: url, target: "_blank", rel: "noopener" }, name), el("span", {}, ` ${what}`))),
  );
  if (!config.trace_url) say(byId("trace-hint"), "Every message, its sender, and its time.");
  byId("notice").hidden = config.demo;
  if (!config.demo) {
    say(byId("notice"), "Demo mode is off: nothing can be ordered or broken here, and each request must carry an " +
      "operator’s token, which a proxy in front of the page has to add.");
  }
  orders.apply(config);
  place.apply(config);
  breaking.apply(config);
  drills.apply(config);
}

async function begin() {
  try {
    const config = await api.config();
    apply(config);
    // A service that was unavailable when the page was opened has nothing to show yet.
    const partial = config.demo && (config.products.length === 0 || config.services.some(({ failpoints, queues, name }) =>
      name !== "card-processor" && failpoints.length + queues.length === 0));
    if (partial) setTimeout(begin, CONFIG_AGAIN_MS);
  } catch (error) {
    byId("notice").hidden = false;
    say(byId("notice"), `${error.message} Trying again.`);
    setTimeout(begin, CONFIG_AGAIN_MS);
  }
}

orders.begin();
pair.begin();
place.begin();
breaking.begin();
begin();
listen({
  snapshot: ({ orders: lines }) => orders.all(lines),
  order: (line) => orders.one(line),
  health: (standing) => {
    health.show(standing);
    breaking.show(standing);
  },
  trouble: (counts) => {
    parked.count(counts);
    stuck.count(counts);
  },
  invariants: (invariants) => books.show(invariants),
  drill: (told) => drills.show(told),
});
