// Connect the views of a recording with its player, mouse, touch, keyboard, and the tables of events.
"use strict";

const data = JSON.parse(document.querySelector(".recording-data").textContent);
const player = document.querySelector(".toolbar audio");
const timeline = document.querySelector(".timeline");
const overview = document.querySelector(".overview");
const readout = document.querySelector(".readout");
const follow = document.querySelector(".follow");
const view = new RecordingView(data, timeline.querySelector("canvas"), overview.querySelector("canvas"));
const ZOOM = 1.6;
// Digits of times: enough for the columns of the spectrogram.
const DIGITS = data.columnSeconds < 0.05 ? 2 : 1;

const audio = new RecordingAudio(player, data.audio);
let pending = false;

const now = () => audio.time;

// Draw at most once per frame.
function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    view.draw();
    showPosition();
  });
}
view.onTile = redraw;

function showPosition() {
  const time = now();
  const cursor = timeline.querySelector(".cursor");
  cursor.hidden = !view.axis.contains(time);
  cursor.style.transform = `translateX(${view.x(time)}px)`;
  timeline.setAttribute("aria-valuenow", ((100 * time) / data.seconds).toFixed(2));
  timeline.setAttribute("aria-valuetext", clockTime(time, DIGITS, data.seconds));
  if (!timeline.matches(":hover")) describe(time);
}

function describe(time, frequency = null) {
  describePosition(readout, view, time, frequency, DIGITS);
  if (player && !audio.has(time)) readout.append(" · no audio here");
}

function seek(time) {
  const position = clamp(time, 0, data.seconds);
  audio.seek(position);
  if (!view.axis.contains(position)) view.axis.show(position - view.axis.span / 4, view.axis.span);
  markRows();
  redraw();
}

function playEvent(index) {
  view.selected = index;
  seek(data.events[index][0]);
  audio.play();
}

// Mark the rows of the events at the position.
function markRows() {
  const time = now();
  for (const row of document.querySelectorAll("[data-row]")) {
    const [start, end] = data.events[row.dataset.row];
    row.classList.toggle("now", start <= time && time < end);
  }
}

function whilePlaying() {
  const time = now();
  if (follow.checked && !view.axis.contains(time)) view.axis.show(time - view.axis.span / 20, view.axis.span), redraw();
  showPosition();
  if (!player.paused) requestAnimationFrame(whilePlaying);
}

if (player) {
  player.addEventListener("play", whilePlaying);
  for (const name of ["seeked", "timeupdate", "pause"]) {
    player.addEventListener(name, () => (showPosition(), markRows()));
  }
}

controlTimeline(timeline, view, { seek, playEvent, redraw, describe, leave: () => describe(now()) });
controlOverview(overview, view, { seek, redraw });

// Buttons and tables.
const center = () => (view.axis.contains(now()) ? now() : (view.axis.start + view.axis.end) / 2);
const actions = {
  "zoom-in": () => view.axis.zoom(ZOOM, center()),
  "zoom-out": () => view.axis.zoom(1 / ZOOM, center()),
  fit: () => view.axis.show(0, data.seconds),
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { action, event: index, time, class: name } = button.dataset;
  if (action) actions[action]();
  else if (index) playEvent(Number(index));
  else if (time) seek(Number(time)), audio.play();
  else if (name) toggleClass(button, Number(name));
  redraw();
});
document.querySelector(".boxes").addEventListener("change", (event) => ((view.showsBoxes = event.target.checked), redraw()));

function toggleClass(button, index) {
  const isShown = button.getAttribute("aria-pressed") === "true";
  button.setAttribute("aria-pressed", String(!isShown));
  view.hidden[isShown ? "add" : "delete"](index);
}

// Keys work wherever the focus is not on something that uses them itself.
function nextEvent(direction) {
  const starts = data.events.map(([start], i) => [start, i]).filter(([, i]) => !view.hidden.has(data.events[i][2]));
  const found = direction > 0 ? starts.find(([start]) => start > now() + 0.01) : starts.findLast(([start]) => start < now() - 0.5);
  if (found) (view.selected = found[1]), seek(found[0]);
}
const keys = {
  " ": () => player && (player.paused ? audio.play() : player.pause()),
  ArrowLeft: (event) => (event.shiftKey ? view.axis.pan(-view.axis.span / 4) : seek(now() - view.axis.span / 40)),
  ArrowRight: (event) => (event.shiftKey ? view.axis.pan(view.axis.span / 4) : seek(now() + view.axis.span / 40)),
  Home: () => seek(0),
  End: () => seek(data.seconds),
  "+": actions["zoom-in"],
  "=": actions["zoom-in"],
  "-": actions["zoom-out"],
  0: actions.fit,
  n: () => nextEvent(1),
  p: () => nextEvent(-1),
};
document.addEventListener("keydown", (event) => {
  const onControl = event.target.closest("button, input, summary, audio, a");
  const action = keys[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  if (onControl && [" ", "ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
  if (["Home", "End"].includes(event.key) && event.target !== timeline) return;
  event.preventDefault();
  action(event);
  redraw();
});

for (const button of document.querySelectorAll(".legend button")) {
  button.querySelector("line").setAttribute("stroke-dasharray", DASHES[button.dataset.class].join(" "));
}
new ResizeObserver(() => (view.resize(), redraw())).observe(timeline.parentElement);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (view.resize(), redraw()));
view.resize();
redraw();
