// The area of a recording in progress: its level, its time, and buttons to use or discard it.
/* global clockTime */
import { byId, showError } from "./elements.js";
import { Recorder } from "./recorder.js";

// Width of a bar of the level and the gap to the next, in CSS pixels.
const BAR = 3, GAP = 2;

// Let the record button make a file of at most `limits`, which `use` gets.
export function startRecord(limits, use, errorBox) {
  const button = byId("record");
  if (!Recorder.isAvailable) {
    button.disabled = true;
    button.title = "Browsers record only on pages from this host or over HTTPS.";
    return;
  }
  let recorder = null;
  const levels = [];

  const show = (isRecording) => {
    byId("recording").hidden = !isRecording;
    byId("drop").hidden = isRecording;
  };
  const end = () => {
    show(false);
    button.focus();
    const ended = recorder;
    recorder = null;
    return ended;
  };
  const finish = () => use(end().finish());
  const addBlock = (samples) => {
    if (!recorder) return;
    levels.push(samples.reduce((maximum, sample) => Math.max(maximum, Math.abs(sample)), 0));
    drawLevels(byId("level"), levels);
    byId("record-time").textContent = clockTime(recorder.seconds, 1, recorder.seconds);
    // The next block could be beyond a limit.
    if (recorder.seconds >= limits.max_seconds - 0.1 || recorder.bytes >= 1e6 * limits.max_megabytes - 10_000) finish();
  };

  button.addEventListener("click", async () => {
    showError(errorBox, null);
    levels.length = 0;
    button.disabled = true;
    try {
      recorder = await Recorder.start(addBlock);
    } catch (error) {
      return showError(errorBox, new Error(`The microphone cannot be used: ${error.message}`));
    } finally {
      button.disabled = false;
    }
    show(true);
    byId("stop").focus();
  });
  byId("stop").addEventListener("click", finish);
  byId("discard").addEventListener("click", () => end().discard());
}

// The last levels, the newest at the right end.
function drawLevels(canvas, levels) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  context.fillStyle = getComputedStyle(canvas).color;
  const bars = levels.slice(-Math.floor(width / (BAR + GAP)));
  bars.forEach((level, i) => {
    // Quiet sounds are seen too: the height is the square root.
    const size = Math.max(2, height * Math.sqrt(level));
    context.fillRect(width - (bars.length - i) * (BAR + GAP), (height - size) / 2, BAR, size);
  });
}
