// The section that generates clips of a class, and compares them with real ones.
import { request, requestJson } from "./api.js";
import { addMedia, clipCard, removeCard } from "./clip_card.js";
import { announce, byId, element, fillSelect, percent, plural, seconds, showError } from "./elements.js";

const MAX_CLIPS = 7;

// Start the section; `classify` classifies a file, and is null without a classifier.
export function startGenerate(models, classify) {
  return new GenerateSection(models, classify);
}

class GenerateSection {
  constructor(models, classify) {
    Object.assign(this, { models, classify, controller: null, compared: "" });
    this.errorBox = byId("generate-error");
    byId("generate").hidden = false;
    fillSelect(byId("generator"), models.map(({ name }) => name), byId("generator-label"));
    this.changeModel();
    byId("generator").addEventListener("change", () => this.changeModel());
    byId("generate-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.generate();
    });
    byId("next-seed").addEventListener("click", () => {
      byId("seed").value = (Number(byId("seed").value) || 0) + 1;
      this.generate();
    });
  }

  get model() {
    return this.models[Math.max(0, byId("generator").selectedIndex)];
  }

  changeModel() {
    const { name, classes, seconds: length } = this.model;
    byId("generate-note").textContent = `${name}: clips of ${seconds(length)} of ${plural(classes.length, "class")}. The same seed always gives the same clip.`;
    const before = byId("label").value;
    fillSelect(byId("label"), classes);
    if (classes.includes(before)) byId("label").value = before;
  }

  async generate() {
    if (!byId("generate-form").reportValidity()) return;
    const { model } = this;
    const [label, seed] = [byId("label").value, byId("seed").value];
    // A later request replaces this one.
    this.controller?.abort();
    const controller = (this.controller = new AbortController());
    showError(this.errorBox, null);
    byId("generate-busy").textContent = `Generating ${label}, seed ${seed}…`;
    try {
      const options = { query: { label, seed, run: model.name }, signal: controller.signal };
      const [audio, image] = await Promise.all([request("generate", options), request("generate/spectrogram", options)]);
      this.compare(model, label);
      this.addClip(model, label, seed, audio, image.blob);
    } catch (error) {
      showError(this.errorBox, error);
    } finally {
      if (this.controller === controller) byId("generate-busy").textContent = "";
    }
  }

  addClip(model, label, seed, audio, image) {
    const predicted = decodeURIComponent(audio.header("X-Melray-Predicted-Label") ?? "");
    const note = predictionNote(label, predicted, Number(audio.header("X-Melray-Confidence")));
    const card = clipCard(`${label}, seed ${seed}`, note, model);
    addMedia(card, image, audio.blob);
    const name = `${label.replace(/[^\p{L}\p{N}._-]+/gu, "_")}_${seed}.wav`;
    const actions = element("div", { class: "buttons" },
      element("a", { class: "button", href: card.querySelector("audio").src, download: name }, "Download"));
    if (this.classify) {
      const use = () => this.classify(new File([audio.blob], name, { type: "audio/wav" }));
      actions.append(element("button", { type: "button", onclick: () => (use(), byId("classify").scrollIntoView()) }, "Classify"));
    }
    card.append(actions);
    const list = byId("generated");
    list.prepend(card);
    while (list.children.length > MAX_CLIPS) removeCard(list.lastElementChild);
    announce(`Generated ${label}, seed ${seed}. ${note.textContent}`);
  }

  // Show the real clips of a class, unless they are shown already.
  async compare(model, label) {
    const key = JSON.stringify([model.name, label]);
    byId("comparison").hidden = false;
    if (key === this.compared) return;
    this.compared = key;
    for (const list of [byId("generated"), byId("examples")]) [...list.children].forEach(removeCard);
    byId("examples-panel").hidden = true;
    byId("examples-title").textContent = `Real clips of ${label}`;
    try {
      const examples = await requestJson("examples", { query: { label, run: model.name } });
      if (key !== this.compared) return;
      byId("examples-panel").hidden = !examples.length;
      await Promise.all(examples.map((example) => addExample(model, example)));
    } catch (error) {
      showError(this.errorBox, error);
    }
  }
}

async function addExample(model, { clip_id: id, audio, spectrogram }) {
  const card = clipCard(id, null, model);
  byId("examples").append(card);
  const [image, sound] = await Promise.all([request(relative(spectrogram)), request(relative(audio))]);
  addMedia(card, image.blob, sound.blob);
}

// A path of the server without the leading slash: the server may be below a path of a proxy.
const relative = (url) => url.replace(/^\//, "");

// What the reference classifier predicts for a clip.
function predictionNote(label, predicted, confidence) {
  if (!predicted) return element("span", {});
  if (predicted === label) return element("span", {}, `predicted as ${predicted}, ${percent(confidence)}`);
  return element("span", { class: "wrong" }, `predicted as ${predicted}; ${label}: ${percent(confidence)}`);
}
