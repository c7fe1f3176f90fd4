// A classified sound: player, spectrogram, curves and events on one time axis, and its classes as bars.
/* global RecordingView, DASHES, clamp, clockTime, controlOverview, controlTimeline, describePosition */
import { showBars } from "./bars.js";
import { byId, element, percent } from "./elements.js";
import { viewData } from "./view_data.js";

const ZOOM = 1.6, MAX_ROWS = 1000, SUMMARY_LENGTH = 36;

export class SoundViewer {
  // Show a sound in a container. `thresholdOf` gives the threshold of a class, or null.
  static async create(container, file, result, thresholdOf) {
    return new SoundViewer(container, file, result, await viewData(result, thresholdOf), thresholdOf);
  }

  constructor(container, file, result, data, thresholdOf) {
    container.replaceChildren(byId("viewer-template").content.cloneNode(true));
    this.find = (selector) => container.querySelector(selector);
    this.data = data;
    this.urls = [];
    this.position = 0; // until the player has loaded the sound
    this.digits = data.columnSeconds < 0.05 ? 2 : 1;
    this.timeline = this.find(".timeline");
    this.view = new RecordingView(data, this.find(".timeline canvas"), this.find(".overview canvas"));
    this.view.onTile = () => this.redraw();
    this.openAudio(file);
    this.control();
    this.fillLegend();
    this.fillEvents();
    this.showSummary(result, thresholdOf);
    this.watchSize();
  }

  // Release what the page would keep.
  close() {
    this.observer.disconnect();
    this.ended.abort();
    this.audio.pause();
    for (const url of this.urls) URL.revokeObjectURL(url);
  }

  // An address of a file or blob, until the viewer is closed.
  url(blob) {
    const url = URL.createObjectURL(blob);
    this.urls.push(url);
    return url;
  }

  openAudio(file) {
    this.audio = this.find("audio");
    this.audio.setAttribute("aria-label", `Audio of ${file.name}`);
    this.audio.src = this.url(file);
    this.audio.addEventListener("error", () => {
      this.find(".audio-note").textContent = "This browser cannot play the format of the file; its classes are not affected.";
      this.find(".audio-note").hidden = false;
    });
    this.audio.addEventListener("play", () => this.whilePlaying());
    this.audio.addEventListener("loadedmetadata", () => (this.audio.currentTime = this.position));
    for (const name of ["seeked", "timeupdate", "pause"]) {
      this.audio.addEventListener(name, () => (this.showPosition(), this.markRows()));
    }
  }

  get now() {
    return this.audio.readyState > 0 ? this.audio.currentTime : this.position;
  }

  // Draw at most once per frame.
  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.view.draw();
      this.showPosition();
    });
  }

  showPosition() {
    const cursor = this.find(".cursor");
    cursor.hidden = !this.view.axis.contains(this.now);
    cursor.style.transform = `translateX(${this.view.x(this.now)}px)`;
    this.timeline.setAttribute("aria-valuenow", ((100 * this.now) / this.data.seconds).toFixed(2));
    this.timeline.setAttribute("aria-valuetext", clockTime(this.now, this.digits, this.data.seconds));
    if (!this.timeline.matches(":hover")) this.describe(this.now);
  }

  describe(time, frequency = null) {
    describePosition(this.find(".readout"), this.view, time, frequency, this.digits);
  }

  seek(time) {
    this.position = clamp(time, 0, this.data.seconds);
    this.audio.currentTime = this.position;
    const { axis } = this.view;
    if (!axis.contains(this.position)) axis.show(this.position - axis.span / 4, axis.span);
    this.markRows();
    this.redraw();
  }

  play() {
    // A browser may refuse, such as a file it cannot decode; the position has been moved nevertheless.
    this.audio.play().catch(() => {});
  }

  playEvent(index) {
    this.view.selected = index;
    this.seek(this.data.events[index][0]);
    this.play();
  }

  nextEvent(direction) {
    const starts = this.data.events.map(([start], i) => [start, i]).filter(([, i]) => !this.view.hidden.has(this.data.events[i][2]));
    const found = direction > 0 ? starts.find(([start]) => start > this.now + 0.01) : starts.findLast(([start]) => start < this.now - 0.5);
    if (found) (this.view.selected = found[1]), this.seek(found[0]);
  }

  whilePlaying() {
    const { axis } = this.view;
    if (!axis.contains(this.now)) axis.show(this.now - axis.span / 20, axis.span), this.redraw();
    this.showPosition();
    if (!this.audio.paused) requestAnimationFrame(() => this.whilePlaying());
  }

  control() {
    const { view, timeline } = this;
    const actions = {
      seek: (time) => this.seek(time),
      playEvent: (index) => this.playEvent(index),
      redraw: () => this.redraw(),
      describe: (time, frequency) => this.describe(time, frequency),
      leave: () => this.describe(this.now),
    };
    controlTimeline(timeline, view, actions);
    controlOverview(this.find(".overview"), view, actions);
    const center = () => (view.axis.contains(this.now) ? this.now : (view.axis.start + view.axis.end) / 2);
    const zooms = {
      "zoom-in": () => view.axis.zoom(ZOOM, center()),
      "zoom-out": () => view.axis.zoom(1 / ZOOM, center()),
      fit: () => view.axis.show(0, this.data.seconds),
    };
    for (const button of this.find(".zoom").children) {
      button.addEventListener("click", () => (zooms[button.dataset.action](), this.redraw()));
    }
    const step = () => view.axis.span / 40;
    const keys = {
      " ": () => (this.audio.paused ? this.play() : this.audio.pause()),
      ArrowLeft: (event) => (event.shiftKey ? view.axis.pan(-view.axis.span / 4) : this.seek(this.now - step())),
      ArrowRight: (event) => (event.shiftKey ? view.axis.pan(view.axis.span / 4) : this.seek(this.now + step())),
      Home: () => this.seek(0),
      End: () => this.seek(this.data.seconds),
      "+": zooms["zoom-in"],
      "=": zooms["zoom-in"],
      "-": zooms["zoom-out"],
      0: zooms.fit,
      n: () => this.nextEvent(1),
      p: () => this.nextEvent(-1),
    };
    timeline.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key](event);
      this.redraw();
    });
  }

  colorOf(index) {
    return index >= 0 && index < this.data.curves.length ? `color-${index}` : "color-other";
  }

  fillLegend() {
    const legend = this.find(".legend");
    this.data.curves.forEach((_, i) => {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 28 8");
      svg.setAttribute("aria-hidden", "true");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of Object.entries({ x1: 0, x2: 28, y1: 4, y2: 4, "stroke-dasharray": DASHES[i].join(" ") })) {
        line.setAttribute(name, value);
      }
      svg.append(line);
      const toggle = (event) => {
        const isShown = event.currentTarget.getAttribute("aria-pressed") === "true";
        event.currentTarget.setAttribute("aria-pressed", String(!isShown));
        this.view.hidden[isShown ? "add" : "delete"](i);
        this.redraw();
      };
      legend.append(element("button", { type: "button", class: this.colorOf(i), "aria-pressed": "true", onclick: toggle }, svg, this.data.names[i]));
    });
  }

  fillEvents() {
    const { events, names, seconds } = this.data;
    this.find(".events").hidden = !events.length;
    this.find(".event-list .note").textContent = events.length
      ? "Neighboring windows above the threshold are one event; its probability is their maximum."
      : "No event: no window reaches the threshold of a class.";
    const clock = (time) => clockTime(time, 1, seconds);
    const rows = events.slice(0, MAX_ROWS).map(([start, end, index, probability], i) => {
      const fill = element("i");
      fill.style.width = `${100 * probability}%`;
      const play = { type: "button", "aria-label": `Play from ${clock(start)}: ${names[index]}`, onclick: () => this.playEvent(i) };
      return element("tr", {},
        element("th", { scope: "row" }, element("button", play, clock(start))),
        element("td", { class: "hide-narrow" }, clock(end)),
        element("td", { class: "number hide-narrow" }, (end - start).toFixed(1)),
        element("td", { class: "name" }, element("i", { class: `dot ${this.colorOf(index)}` }), names[index]),
        element("td", {}, element("div", { class: "fraction" }, element("span", {}, percent(probability)), element("span", { class: "bar" }, fill))));
    });
    this.find(".events tbody").replaceChildren(...rows);
  }

  // Mark the rows of the events at the position.
  markRows() {
    [...this.find(".events tbody").children].forEach((row, i) => {
      const [start, end] = this.data.events[i];
      row.classList.toggle("now", start <= this.now && this.now < end);
    });
  }

  showSummary(result, thresholdOf) {
    const { predictions, windows, warnings, multi_label: isMultiLabel, run } = result;
    this.find(".top-note").textContent = windows ? `${run}, ${isMultiLabel ? "maximum" : "mean"} of all windows` : run;
    this.find(".top-label").textContent = summary(result, thresholdOf);
    const present = isMultiLabel ? presentLabels(result, thresholdOf).length : 1;
    this.find(".top-value").textContent = present > 1 ? `${present} classes above their thresholds` : percent(predictions[0].probability);
    const color = (name) => (windows ? this.colorOf(this.data.names.indexOf(name)) : "");
    showBars(this.find(".predictions"), predictions, color, isMultiLabel ? thresholdOf : () => null);
    for (const part of [".overview", ".zoom", ".legend", ".event-list"]) this.find(part).hidden = !windows;
    this.find(".result-grid").classList.toggle("long", windows !== null);
    this.find(".warnings").replaceChildren(...warnings.map((text) => element("li", {}, text)));
    const json = JSON.stringify({ ...result, spectrogram: undefined }, null, 2);
    this.find(".save").href = this.url(new Blob([json], { type: "application/json" }));
    this.find(".save").download = `${result.file}.json`;
  }

  watchSize() {
    this.ended = new AbortController();
    // Drawn at once: a canvas is empty after it got another size.
    const resize = () => (this.view.resize(), this.view.draw(), this.showPosition());
    this.observer = new ResizeObserver(resize);
    this.observer.observe(this.timeline.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", resize, { signal: this.ended.signal });
    resize();
  }
}

// The class of a sound; of a multi-label model those above their thresholds, as many as can be read at a glance.
export function summary(result, thresholdOf) {
  if (!result.multi_label) return result.predictions[0].label;
  const present = presentLabels(result, thresholdOf);
  if (!present.length) return `No class; highest: ${result.predictions[0].label}`;
  let count = 1;
  while (count < present.length && present.slice(0, count + 1).join(", ").length <= SUMMARY_LENGTH) count++;
  const more = present.length > count ? ` and ${present.length - count} more` : "";
  return present.slice(0, count).join(", ") + more;
}

function presentLabels({ predictions }, thresholdOf) {
  return predictions.filter(({ label, probability }) => probability >= thresholdOf(label)).map(({ label }) => label);
}
