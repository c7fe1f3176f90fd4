// Load the list of models, then start the sections that they need.
import { hasToken, requestJson } from "./api.js";
import { startClassify } from "./classify.js";
import { byId, element, showError } from "./elements.js";
import { startGenerate } from "./generate.js";

async function load() {
  byId("loading").hidden = false;
  showError(byId("failure"), null);
  try {
    start(await requestJson("models"));
  } catch (error) {
    showError(byId("failure"), error);
    byId("failure").append(" ", element("button", { type: "button", onclick: load }, "Try again"));
  } finally {
    byId("loading").hidden = true;
  }
}

function start({ classifiers, generators, limits }) {
  const titles = [classifiers.length && "classifier", generators.length && "generator"].filter(Boolean);
  byId("title").textContent = `Sound ${titles.join(" and ")}`;
  document.title = `${byId("title").textContent} · melray`;
  byId("sections").hidden = titles.length < 2;
  // The browser would open the page of the interface without the token.
  if (hasToken()) byId("docs-link").hidden = true;
  const classify = classifiers.length ? startClassify(classifiers, limits) : null;
  if (generators.length) startGenerate(generators, classify);
}

// One sound at a time.
document.addEventListener("play", (event) => {
  for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
}, true);

load();
