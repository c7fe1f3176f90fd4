// Draw a recording: its spectrogram with boxes of events, bars of events, and curves of scores, on one time axis.
"use strict";

// Heights in CSS pixels.
const SPECTROGRAM = { wide: 260, narrow: 190 };
const CURVES = { wide: 150, narrow: 120 };
const CAPTION = 20, BAR = 20, BAR_GAP = 3, MAX_BAR_ROWS = 4;
// On the spectrogram, which is dark in both color schemes: the bright colors of the style sheet.
const BOX_COLORS = ["#6fb3ee", "#ff9c63", "#4fcfa8", "#dca3d3", "#e3cf57", "#ff86a8", "#5cd5e8", "#ffffff"];
// Boxes that are narrower would hide the spectrogram.
const MIN_BOX_PIXELS = 14;
const DASHES = [[], [], [], [], [7, 3], [7, 3], [2, 3], [2, 3]];
const FONT_SIZE = 11.5;

class RecordingView extends SpectrogramView {
  constructor(data, canvas, overview) {
    super(data, canvas, overview);
    this.showsBoxes = true;
    this.selected = -1;
    this.eventRows = packRows(data.events, MAX_BAR_ROWS);
    this.annotationRows = packRows(data.annotations, MAX_BAR_ROWS);
  }

  // Set sizes and colors from the style sheet, for the current width and color scheme.
  resize() {
    const style = getComputedStyle(document.documentElement);
    this.color = (name) => style.getPropertyValue(name).trim();
    this.font = `${FONT_SIZE}px ${this.color("--font")}`;
    this.width = this.canvas.parentElement.clientWidth;
    const size = this.width < 600 ? "narrow" : "wide";
    const spectrogram = { top: MARGIN.top, height: SPECTROGRAM[size] };
    const events = { top: spectrogram.top + spectrogram.height + 6, height: rowsHeight(this.eventRows) };
    const annotations = { top: events.top + events.height, height: rowsHeight(this.annotationRows) };
    // A sound that was classified as a whole has no curves.
    const [caption, height] = this.data.curves.length ? [CAPTION + 4, CURVES[size]] : [0, 0];
    const curves = { top: annotations.top + annotations.height + caption, height };
    this.areas = { spectrogram, events, annotations, curves };
    this.height = curves.top + curves.height + MARGIN.bottom;
    this.canvas.parentElement.style.height = `${this.height}px`;
    for (const canvas of [this.canvas, this.overview]) {
      canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
      canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    }
  }

  boxColor(index) {
    return index < this.data.curves.length ? BOX_COLORS[index] : "#9aa3ad";
  }

  hasBox([start, end]) {
    return this.showsBoxes && this.x(end) - this.x(start) >= MIN_BOX_PIXELS;
  }

  // Index of the event whose bar or box is at a position, or -1: of several boxes the shortest.
  eventAt(x, y) {
    const { events, spectrogram } = this.areas;
    const row = Math.floor((y - events.top - CAPTION) / (BAR + BAR_GAP));
    const inBars = y >= events.top + CAPTION && y < events.top + events.height;
    const inBoxes = y >= spectrogram.top && y < spectrogram.top + spectrogram.height;
    let found = -1;
    this.data.events.forEach(([start, end, index], i) => {
      if (this.hidden.has(index) || x < this.x(start) - 2 || x > this.x(end) + 2) return;
      if (!((inBoxes && this.hasBox([start, end])) || (inBars && this.eventRows[i] === row))) return;
      const length = found < 0 ? Infinity : this.data.events[found][1] - this.data.events[found][0];
      if (end - start < length) found = i;
    });
    return found;
  }

  // Frequency in Hz at a height of the spectrogram, or null outside.
  frequencyAt(y) {
    const { top, height } = this.areas.spectrogram;
    if (y < top || y > top + height) return null;
    const bands = this.data.bands;
    const position = (1 - (y - top) / height) * (bands.length - 1);
    const low = Math.min(Math.floor(position), bands.length - 2);
    return bands[low] + (position - low) * (bands[low + 1] - bands[low]);
  }

  // Scores of all curves at a time, from the window whose center is closest, highest first.
  scoresAt(time) {
    const { curves, hop, window } = this.data;
    const i = Math.round((time - window / 2) / hop);
    return curves
      .map(({ scores }, index) => [index, scores[clamp(i, 0, scores.length - 1)]])
      .filter(([index, score]) => score != null && !this.hidden.has(index))
      .sort((a, b) => b[1] - a[1]);
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.font = this.font;
    context.textBaseline = "middle";
    this.drawGrid(context);
    this.clip(context, this.areas.spectrogram, () => {
      this.drawTiles(context, this.areas.spectrogram, this.axis.start, this.axis.end, MARGIN.left, this.plotWidth);
      this.drawGaps(context, this.areas.spectrogram);
      if (this.showsBoxes) this.drawBoxes(context);
    });
    this.drawFrequencies(context);
    this.drawBars(context, "Detected events", this.areas.events, this.data.events, this.eventRows, true);
    this.drawBars(context, "Annotations", this.areas.annotations, this.data.annotations, this.annotationRows, false);
    this.drawCurves(context);
    this.drawOverview();
  }

  clip(context, area, action) {
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, area.top, this.plotWidth, area.height);
    context.clip();
    action();
    context.restore();
  }

  text(context, text, x, y, { color = "--muted", align = "left", weight = "" } = {}) {
    context.fillStyle = this.color(color);
    context.textAlign = align;
    context.font = weight ? `${weight} ${this.font}` : this.font;
    context.fillText(text, x, y);
  }

  drawGrid(context) {
    const { spectrogram, curves } = this.areas;
    const bottom = curves.top + curves.height;
    for (const [time, text] of this.axis.ticks(this.plotWidth)) {
      const x = Math.round(this.x(time)) + 0.5;
      this.line(context, "--line", [[x, spectrogram.top + spectrogram.height + 4], [x, bottom]]);
      this.line(context, "--axis", [[x, spectrogram.top + spectrogram.height], [x, spectrogram.top + spectrogram.height + 4]]);
      this.line(context, "--axis", [[x, bottom], [x, bottom + 4]]);
      const half = context.measureText(text).width / 2;
      this.text(context, text, clamp(x, half, this.width - half), bottom + 13, { align: "center" });
    }
  }

  drawBoxes(context) {
    const { top, height } = this.areas.spectrogram;
    const box = ([start, end, index], row, dash, isSelected) => {
      if (this.hidden.has(index) || end < this.axis.start || start > this.axis.end) return;
      if (!this.hasBox([start, end]) && !isSelected) return;
      const inset = 3 + row * 5;
      const rectangle = [this.x(start), top + inset, Math.max(2, this.x(end) - this.x(start)), height - 2 * inset];
      for (const [color, width] of [["rgb(0 0 0 / .7)", 4], [this.boxColor(index), isSelected ? 3 : 1.75]]) {
        context.strokeStyle = color;
        context.lineWidth = width;
        context.setLineDash(dash);
        context.strokeRect(...rectangle);
      }
      context.setLineDash([]);
    };
    this.data.annotations.forEach((span, i) => box(span, this.annotationRows[i] + 0.5, [5, 4], false));
    this.data.events.forEach((span, i) => box(span, this.eventRows[i], [], i === this.selected));
  }

  drawFrequencies(context) {
    const { top, height } = this.areas.spectrogram;
    this.text(context, "Hz", MARGIN.left - 8, 8, { align: "right" });
    this.text(context, "Spectrogram", MARGIN.left, 8, { weight: 600 });
    for (const [hertz, position] of this.data.frequencies) {
      const y = Math.round(top + height * (1 - position)) + 0.5;
      this.line(context, "--axis", [[MARGIN.left - 4, y], [MARGIN.left, y]]);
      this.text(context, hertz >= 1000 ? `${hertz / 1000}k` : `${hertz}`, MARGIN.left - 8, y, { align: "right" });
    }
  }

  drawBars(context, caption, area, spans, rows, isFilled) {
    if (!spans.length) return;
    this.text(context, caption, MARGIN.left, area.top + CAPTION / 2, { weight: 600 });
    this.clip(context, area, () => {
      spans.forEach(([start, end, index], i) => {
        if (this.hidden.has(index) || end < this.axis.start || start > this.axis.end) return;
        const top = area.top + CAPTION + rows[i] * (BAR + BAR_GAP);
        this.drawBar(context, this.x(start), this.x(end), top, index, isFilled, isFilled && i === this.selected);
      });
    });
  }

  drawBar(context, left, right, top, index, isFilled, isSelected) {
    const width = Math.max(2, right - left - 1);
    context.beginPath();
    context.roundRect(left + 0.75, top + 0.75, Math.max(1, width - 1.5), BAR - 1.5, 4);
    context.fillStyle = isFilled ? this.classColor(index) : this.color("--surface");
    context.fill();
    context.strokeStyle = isSelected ? this.color("--ink") : this.classColor(index);
    context.lineWidth = isSelected ? 2.5 : 1.5;
    context.stroke();
    const textLeft = Math.max(left, MARGIN.left) + 7;
    const room = Math.min(right, this.width - MARGIN.right) - textLeft - 5;
    const text = this.fitted(context, this.data.names[index], room);
    if (text) this.text(context, text, textLeft, top + BAR / 2 + 0.5, { color: isFilled ? "--on-cell" : "--ink" });
  }

  // A text that is not wider than `room` pixels, with an ellipsis if it is cut; empty if too little is left.
  fitted(context, text, room) {
    context.font = this.font;
    if (room < 14) return "";
    const characters = [...text];
    if (context.measureText(text).width <= room) return text;
    let length = Math.min(characters.length, Math.floor(room / 4));
    while (length > 0 && context.measureText(`${characters.slice(0, length).join("")}…`).width > room) length--;
    return length > 1 ? `${characters.slice(0, length).join("")}…` : "";
  }

  drawCurves(context) {
    if (!this.data.curves.length) return;
    const area = this.areas.curves;
    const y = (score) => area.top + area.height * (1 - score / 1000);
    this.text(context, "Probability", MARGIN.left, area.top - CAPTION / 2 - 2, { weight: 600 });
    for (const percent of [0, 25, 50, 75, 100]) {
      const height = Math.round(y(10 * percent)) + 0.5;
      this.line(context, percent ? "--line" : "--axis", [[MARGIN.left, height], [this.width - MARGIN.right, height]]);
      if (percent % 50 === 0) this.text(context, `${percent}\u202f%`, MARGIN.left - 6, height, { align: "right" });
    }
    const shown = this.data.curves.map((curve, index) => ({ ...curve, index })).filter(({ index }) => !this.hidden.has(index));
    const thresholds = new Set(this.data.curves.map(({ threshold }) => threshold).filter((value) => value != null));
    this.clip(context, { top: area.top - 2, height: area.height + 4 }, () => {
      context.setLineDash([4, 4]);
      for (const { threshold, index } of shown) {
        if (threshold == null || threshold > 1) continue;
        const color = thresholds.size > 1 ? this.classColor(index) : this.color("--axis");
        this.line(context, color, [[MARGIN.left, y(1000 * threshold)], [this.width - MARGIN.right, y(1000 * threshold)]], 1.25);
      }
      // The first classes are drawn last, above the others.
      for (const { scores, index } of shown.reverse()) this.drawCurve(context, scores, index, y);
      context.setLineDash([]);
    });
  }

  // Draw the scores of windows at their centers; where several share a pixel, their maximum.
  drawCurve(context, scores, index, y) {
    const { hop, window } = this.data;
    const first = Math.max(0, Math.floor((this.axis.start - window / 2) / hop) - 1);
    const last = Math.min(scores.length - 1, Math.ceil((this.axis.end - window / 2) / hop) + 1);
    const step = Math.max(1, Math.floor(((last - first + 1) / this.plotWidth) * 1.5));
    context.strokeStyle = this.classColor(index);
    context.lineWidth = last - first > this.plotWidth / 8 ? 1.25 : 2;
    context.lineJoin = "round";
    context.setLineDash(DASHES[index]);
    context.beginPath();
    let isOpen = false;
    for (let i = first - (first % step); i <= last; i += step) {
      const values = scores.slice(i, i + step).filter((score) => score != null);
      if (!values.length) { isOpen = false; continue; }
      const score = Math.max(...values);
      const x = this.x(i * hop + window / 2 + ((Math.min(step, scores.length - i) - 1) * hop) / 2);
      if (isOpen) context.lineTo(x, y(score));
      else { context.moveTo(x, y(score)); context.lineTo(x + 0.01, y(score)); }
      isOpen = true;
    }
    context.stroke();
  }
}

function rowsHeight(rows) {
  return rows.length ? CAPTION + (rows.reduce((a, b) => Math.max(a, b), 0) + 1) * (BAR + BAR_GAP) : 0;
}
