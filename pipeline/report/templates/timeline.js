// Time axis of a recording: the part that is shown, texts of times, and round ticks. No access to the page.
"use strict";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// Steps of time ticks in seconds, each with the digits of its texts.
const TICK_STEPS = [
  [0.01, 2], [0.02, 2], [0.05, 2], [0.1, 1], [0.2, 1], [0.5, 1], [1, 0], [2, 0], [5, 0], [10, 0], [15, 0], [30, 0],
  [60, 0], [120, 0], [300, 0], [600, 0], [900, 0], [1800, 0], [3600, 0], [7200, 0], [14400, 0], [28800, 0], [86400, 0],
];
const MIN_TICK_PIXELS = 72;

// Format a time as m:ss, or h:mm:ss in a recording that has an hour.
function clockTime(seconds, digits, total) {
  const scale = 10 ** digits;
  const ticks = Math.round(seconds * scale);
  const whole = Math.floor(ticks / scale);
  const fraction = digits ? "." + String(ticks % scale).padStart(digits, "0") : "";
  const two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return total < 3600
    ? `${minutes}:${two(whole % 60)}${fraction}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}${fraction}`;
}

class TimeAxis {
  constructor(total, minSpan) {
    this.total = total;
    this.minSpan = Math.min(total, minSpan);
    this.show(0, total);
  }

  get span() {
    return this.end - this.start;
  }

  // Show a part of the recording, moved and limited to what there is.
  show(start, span) {
    const limited = clamp(span, this.minSpan, this.total);
    this.start = clamp(start, 0, this.total - limited);
    this.end = this.start + limited;
  }

  // Zoom by a factor; the time `center` keeps its position.
  zoom(factor, center) {
    const span = clamp(this.span / factor, this.minSpan, this.total);
    this.show(center - ((center - this.start) / this.span) * span, span);
  }

  pan(seconds) {
    this.show(this.start + seconds, this.span);
  }

  contains(time) {
    return this.start <= time && time <= this.end;
  }

  // Round times in the part that is shown, with their texts.
  ticks(width) {
    const wanted = (this.span * MIN_TICK_PIXELS) / width;
    const [step, digits] = TICK_STEPS.find(([seconds]) => seconds >= wanted) ?? TICK_STEPS.at(-1);
    const ticks = [];
    for (let i = Math.ceil(this.start / step - 1e-9); i * step <= this.end + 1e-9; i++) {
      ticks.push([i * step, clockTime(i * step, digits, this.total)]);
    }
    return ticks;
  }
}

// Assign spans to the first row in which they do not overlap another; those beyond the last row share it.
function packRows(spans, maxRows) {
  const ends = [];
  return spans.map(([start, end]) => {
    let row = ends.findIndex((other) => other <= start);
    if (row < 0) row = Math.min(ends.length, maxRows - 1);
    ends[row] = Math.max(end, ends[row] ?? 0);
    return row;
  });
}
