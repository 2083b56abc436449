// The stream of events, and the state of its connection.
import { byId, clock, say } from "./dom.js";

/** A longer silence means a dead connection: the room reports the services' health every two seconds. */
const SILENCE_MS = 15_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const EVENTS = ["snapshot", "order", "health", "trouble", "invariants", "drill"];

/** Listens for as long as the page is open. `hear` has a function for each event. */
export function listen(hear) {
  let source = null;
  let wait = FIRST_WAIT_MS;
  let watchdog = 0;
  let heardAt = null;

  const open = () => {
    source = new EventSource("room/live");
    source.addEventListener("open", () => {
      wait = FIRST_WAIT_MS;
      show("connected", "connected: live");
      alive();
    });
    // The browser's own reconnecting gives up on a response that is not a stream, such as a 503. This one goes on.
    source.addEventListener("error", again);
    for (const event of EVENTS) {
      source.addEventListener(event, ({ data }) => {
        alive();
        hear[event](JSON.parse(data));
      });
    }
  };
  const alive = () => {
    heardAt = Date.now();
    clearTimeout(watchdog);
    watchdog = setTimeout(again, SILENCE_MS);
  };
  const again = () => {
    source.close();
    clearTimeout(watchdog);
    const since = heardAt === null ? "" : `; this is the state of ${clock(heardAt)}`;
    show("reconnecting", `reconnecting${since}`);
    setTimeout(open, wait);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  };
  open();
}

function show(state, text) {
  byId("connection").dataset.state = state;
  document.body.dataset.connection = state;
  say(byId("connection"), text);
}
