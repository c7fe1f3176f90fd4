// Elements of the page, and texts of numbers. Text is never parsed as HTML.

// An element with attributes, listeners (`onclick`, …) and children, which are elements or texts.
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export const byId = (id) => document.getElementById(id);

// Format 0.973 as `97.3 %`; values just below 1 or above 0 are not rounded to them.
export function percent(value) {
  if (value < 1 && value >= 0.9995) return ">\u202f99.9\u202f%";
  if (value > 0 && value < 0.0005) return "<\u202f0.1\u202f%";
  return `${(100 * value).toFixed(1)}\u202f%`;
}

export function seconds(value) {
  if (value < 60) return `${Number(value.toPrecision(3))} s`;
  const [minutes, rest] = [Math.floor(Math.round(value) / 60), Math.round(value) % 60];
  return rest ? `${minutes} min ${rest} s` : `${minutes} min`;
}

export function plural(count, noun) {
  const ending = count === 1 ? "" : noun.endsWith("s") ? "es" : "s";
  return `${count.toLocaleString("en")} ${noun}${ending}`;
}

// Say something to a screen reader.
export function announce(text) {
  byId("announcer").textContent = text;
}

// Show an error in an element with the role `alert`; null hides it. What the user canceled is no error.
export function showError(box, error) {
  box.textContent = error && error.name !== "AbortError" ? error.message : "";
}

// Fill a select with names; hide its label if there is no choice.
export function fillSelect(select, names, label = null) {
  select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  if (label) label.hidden = names.length < 2;
}
