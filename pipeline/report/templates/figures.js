// Render each figure from the JSON in its element, in the colors of the style sheet, again whenever the color
// scheme changes: a text such as "var(--correct)" means the value of that property.
"use strict";
const scheme = matchMedia("(prefers-color-scheme: dark)");

function renderFigures() {
  const style = getComputedStyle(document.documentElement);
  const resolve = (key, value) =>
    typeof value === "string" && value.startsWith("var(--")
      ? style.getPropertyValue(value.slice(4, -1)).trim()
      : value;
  for (const chart of document.querySelectorAll(".chart")) {
    const { data, layout } = JSON.parse(chart.querySelector("script").textContent, resolve);
    Plotly.react(chart.querySelector(".plot"), data, layout, { responsive: true, displayModeBar: false });
  }
}

renderFigures();
scheme.addEventListener("change", renderFigures);
