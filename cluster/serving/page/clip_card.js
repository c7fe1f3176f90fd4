// A clip with its spectrogram, axes and player.
/* global TimeAxis */
import { frequencyTicks } from "./axes.js";
import { element, seconds as secondsText } from "./elements.js";

// Width in pixels that the number of time ticks is chosen for.
const WIDTH = 300;

// A figure of a clip of a model, with a title and a note, an element or null; `addMedia` adds its media.
export function clipCard(title, note, { seconds, min_hz: minHz, max_hz: maxHz }) {
  const image = element("img", { alt: `Spectrogram of ${title}`, hidden: true });
  const cursor = element("div", { class: "cursor", hidden: true });
  const frame = element("div", { class: "frame" }, image, cursor);
  const audio = element("audio", { controls: true, preload: "auto", "aria-label": `Audio of ${title}` });
  const time = (event) => ((event.clientX - frame.getBoundingClientRect().left) / frame.clientWidth) * (audio.duration || seconds);
  frame.addEventListener("click", (event) => {
    audio.currentTime = time(event);
    audio.play().catch(() => {});
  });
  followCursor(audio, cursor, seconds);
  const caption = element("figcaption", {}, title, note && element("small", {}, note));
  const plot = element("div", { class: "spectrogram" }, frequencies(minHz, maxHz), frame, times(seconds));
  return element("figure", { class: "clip" }, caption, plot, audio);
}

// Show the image and the audio, which are blobs, in a card.
export function addMedia(card, image, audio) {
  if (image) {
    card.querySelector("img").src = URL.createObjectURL(image);
    card.querySelector("img").hidden = false;
  }
  if (audio) card.querySelector("audio").src = URL.createObjectURL(audio);
}

// Remove a card and release its media.
export function removeCard(card) {
  for (const node of card.querySelectorAll("img, audio")) if (node.src) URL.revokeObjectURL(node.src);
  card.remove();
}

function followCursor(audio, cursor, seconds) {
  const move = () => {
    cursor.hidden = audio.currentTime === 0;
    cursor.style.left = `${(100 * audio.currentTime) / (audio.duration || seconds)}%`;
    if (!audio.paused) requestAnimationFrame(move);
  };
  for (const name of ["play", "seeked", "ended"]) audio.addEventListener(name, move);
}

function frequencies(minHz, maxHz) {
  const ticks = maxHz ? frequencyTicks(minHz, maxHz) : [];
  const texts = ticks.map(([hz, position]) => {
    const text = element("span", {}, hz >= 1000 ? `${hz / 1000}k` : String(hz));
    text.style.bottom = `${100 * position}%`;
    return text;
  });
  return element("div", { class: "frequencies", "aria-hidden": "true" }, ticks.length ? element("i", {}, "Hz") : null, ...texts);
}

function times(seconds) {
  const ticks = new TimeAxis(seconds, seconds).ticks(WIDTH);
  const texts = ticks.map(([time]) => {
    const text = element("span", {}, time === 0 ? "0" : secondsText(time));
    text.style.left = `${(100 * time) / seconds}%`;
    return text;
  });
  return element("div", { class: "times", "aria-hidden": "true" }, ...texts);
}
