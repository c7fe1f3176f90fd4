// Probabilities of the classes as bars: the highest few, or all of them with a filter.
import { element, percent } from "./elements.js";

const FEW = 5, MANY = 12;

// Show predictions in a panel. `colorOf` gives the class of the color of a curve, `thresholdOf` a threshold or null.
export function showBars(panel, predictions, colorOf, thresholdOf) {
  const list = panel.querySelector(".bars");
  const filter = panel.querySelector(".filter");
  const button = panel.querySelector(".expand");
  const rows = predictions.map((prediction) => row(prediction, colorOf(prediction.label), thresholdOf(prediction.label)));
  const update = () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    const text = filter.querySelector("input").value.trim().toLowerCase();
    const wanted = (i) => (isOpen ? predictions[i].label.toLowerCase().includes(text) : i < FEW);
    const shown = rows.filter((_, i) => wanted(i));
    list.replaceChildren(...shown);
    if (!shown.length) list.append(element("li", { class: "description" }, "No class has this name."));
    filter.hidden = !isOpen || rows.length <= MANY;
    // Scrolled with the arrow keys.
    list.tabIndex = isOpen ? 0 : -1;
    button.textContent = isOpen ? `Show the first ${FEW}` : `Show all ${rows.length}`;
  };
  button.hidden = rows.length <= FEW;
  button.onclick = () => {
    button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") !== "true"));
    update();
  };
  filter.querySelector("input").oninput = update;
  update();
}

function row({ label, probability }, color, threshold) {
  const fill = element("i");
  fill.style.width = `${100 * probability}%`;
  const bar = element("span", { class: "bar", "aria-hidden": "true" }, fill);
  if (threshold != null && threshold <= 1) {
    const mark = element("b");
    mark.style.left = `${100 * threshold}%`;
    bar.append(mark);
  }
  const isAbsent = threshold != null && probability < threshold;
  return element("li", { class: `${color} ${isAbsent ? "absent" : ""}` },
    element("span", { class: "name" }, label), element("span", { class: "number" }, percent(probability)), bar);
}
