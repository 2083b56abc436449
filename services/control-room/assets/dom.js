// Small helpers. Text is always inserted as text: nothing from a customer or a message becomes markup.

export const byId = (id) => document.getElementById(id);

/** Returns an element with attributes (`on…` are listeners) and children. */
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

/** Sets text only if it differs: screen readers read a live region again each time that it is set. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Has screen readers read a text. */
export const announce = (text) => say(byId("announce"), text);

/** Formats an amount in the visitor's own language: 690 and EUR as €6.90. */
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

/** Returns the words of a name: `payment declined` for `payment_declined`. */
export const words = (name) => name.replaceAll("_", " ");

export const shortId = (id) => id.slice(-12);

/** Runs a button's action, one at a time, and shows its outcome. */
export async function during(button, outcome, deed) {
  if (button.disabled) return;
  // Not `disabled`: that would take the focus from a visitor who uses the keyboard.
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
