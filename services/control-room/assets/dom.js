// Small helpers. Text only ever goes in as text: nothing that a customer or a message says becomes markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (`on…` are listeners) and children. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Sets text only if it differs: a live region is read again each time that it is set. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Says something to those who do not see the page. */
export const announce = (text) => say(byId("announce"), text);

/** 690 and EUR: as the reader's own language writes it. */
export function money({ amount_minor, currency }) {
  try {
    const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
    return format.format(amount_minor / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch {
    return `${amount_minor / 100} ${currency}`;
  }
}

export const clock = (at) => new Date(at).toLocaleTimeString(undefined, { hourCycle: "h23" });

export function duration(ms) {
  if (ms < 10_000) return `${ms} ms`;
  return ms < 120_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}

/** `payment_declined` -> `payment declined` */
export const words = (name) => name.replaceAll("_", " ");

export const shortId = (id) => id.slice(-12);

/** Has a button do something once at a time, and says how it went. */
export async function during(button, outcome, deed) {
  if (button.disabled) return;
  // Not `disabled`: that would take the focus away from whoever uses the keyboard.
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    const text = await deed();
    outcome.dataset.kind = "good";
    say(outcome, text ?? "");
  } catch (error) {
    outcome.dataset.kind = "bad";
    say(outcome, error.message);
  } finally {
    button.removeAttribute("aria-disabled");
  }
}
