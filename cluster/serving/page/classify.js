// The section that classifies sounds: files that are dropped, chosen or recorded, one after another.
import { requestJson } from "./api.js";
import { announce, byId, element, fillSelect, percent, plural, seconds, showError } from "./elements.js";
import { startRecord } from "./record.js";
import { SoundViewer, summary } from "./sound_viewer.js";

const MAX_SOUNDS = 12, DEFAULT_THRESHOLD = 0.5;

// Start the section; return a function that classifies a file.
export function startClassify(models, limits) {
  const section = new ClassifySection(models, limits);
  return (file) => section.add([file]);
}

class ClassifySection {
  constructor(models, limits) {
    Object.assign(this, { models, limits, queue: [], sounds: [], shown: null, controller: null, viewer: null });
    this.errorBox = byId("classify-error");
    byId("classify").hidden = false;
    byId("limits").textContent = `Audio of up to ${seconds(limits.max_seconds)} and ${limits.max_megabytes} MB`;
    fillSelect(byId("classifier"), models.map(({ name }) => name), byId("classifier-label"));
    this.describeModel();
    this.listen();
    startRecord(limits, (file) => this.add([file]), this.errorBox);
  }

  get model() {
    return this.models[Math.max(0, byId("classifier").selectedIndex)];
  }

  describeModel() {
    const { name, classes, seconds: length, multi_label: isMultiLabel } = this.model;
    const kind = isMultiLabel ? "each on its own" : "one of them for each sound";
    byId("classify-note").textContent = `${name}: ${plural(classes.length, "class")}, ${kind}; longer sounds in windows of ${seconds(length)}.`;
  }

  listen() {
    byId("choose").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", ({ target }) => {
      this.add([...target.files]);
      target.value = ""; // so that the same file can be chosen again
    });
    byId("cancel").addEventListener("click", () => {
      this.queue.length = 0;
      this.controller?.abort();
    });
    byId("classifier").addEventListener("change", () => (this.describeModel(), this.again()));
    byId("hop").addEventListener("change", ({ target }) => target.reportValidity() && this.again());
    this.listenToDrops();
  }

  // Files may be dropped anywhere on the page.
  listenToDrops() {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (isOver) => byId("drop").classList.toggle("over", isOver);
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      mark(true);
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      mark(false);
      this.add([...event.dataTransfer.files]);
    });
  }

  // Classify the shown sound again, with other settings.
  again() {
    if (this.shown) this.add([this.shown.file], this.shown);
  }

  async add(files, replaced = null) {
    this.queue.push(...files.map((file) => ({ file, replaced })));
    if (this.controller) return;
    showError(this.errorBox, null);
    this.controller = new AbortController();
    try {
      while (this.queue.length) await this.classify(this.queue.shift());
    } finally {
      this.controller = null;
      byId("progress").hidden = true;
    }
  }

  async classify({ file, replaced }) {
    const model = this.model;
    try {
      this.checkSize(file);
      this.showProgress(file, 0);
      const body = new FormData();
      body.append("file", file, file.name);
      const query = { run: model.name, hop: byId("hop").value, spectrogram: true };
      const options = { query, body, signal: this.controller.signal, onProgress: (part) => this.showProgress(file, part) };
      const result = await requestJson("classify", options);
      const sound = { file, result, model };
      if (replaced) this.sounds = this.sounds.map((other) => (other === replaced ? sound : other));
      else this.sounds = [sound, ...this.sounds].slice(0, MAX_SOUNDS);
      await this.show(sound);
    } catch (error) {
      this.showFileError(file, error);
    }
  }

  checkSize(file) {
    const megabytes = file.size / 1e6;
    if (megabytes <= this.limits.max_megabytes) return;
    throw new Error(`${megabytes.toFixed(1)} MB, more than this server takes (${this.limits.max_megabytes} MB)`);
  }

  // Errors of several files are shown together.
  showFileError(file, error) {
    if (error.name === "AbortError") return announce("Canceled.");
    const text = error.message.includes(file.name) ? error.message : `${file.name}: ${error.message}`;
    this.errorBox.append(element("p", {}, text));
  }

  showProgress(file, part) {
    const [text, bar] = [byId("progress-text"), byId("progress-bar")];
    const step = part < 1 ? "Uploading" : "Classifying";
    byId("progress").hidden = false;
    text.textContent = `${step} ${file.name}`;
    // Without a value the bar shows that something is going on.
    if (part < 1) bar.value = 100 * part;
    else bar.removeAttribute("value");
    if (part === 0 || part === 1) announce(`${step} ${file.name}`);
  }

  async show(sound) {
    const { file, result, model } = sound;
    const viewer = await SoundViewer.create(byId("result"), file, result, thresholdsOf(model));
    this.viewer?.close();
    this.viewer = viewer;
    this.shown = sound;
    byId("drop").classList.add("compact");
    this.showHistory();
    announce(`${file.name}: ${summary(result, thresholdsOf(model))}, ${percent(result.predictions[0].probability)}`);
  }

  showHistory() {
    byId("history").hidden = false;
    byId("history").replaceChildren(...this.sounds.map((sound) => {
      const { file, result, model } = sound;
      const attributes = { type: "button", "aria-pressed": String(sound === this.shown), onclick: () => this.show(sound) };
      const note = `${seconds(result.seconds)} · ${summary(result, thresholdsOf(model))}`;
      return element("button", attributes, element("b", {}, file.name), element("span", {}, note));
    }));
  }
}

// A function that gives the threshold of a class, or null: one class is always the most probable.
function thresholdsOf({ classes, thresholds, multi_label: isMultiLabel }) {
  return (name) => thresholds?.[classes.indexOf(name)] ?? (isMultiLabel ? DEFAULT_THRESHOLD : null);
}
