// Draw the spectrogram of a recording from image tiles of several resolutions, in a part and as an overview.
"use strict";

// Margins of the plots in CSS pixels.
const MARGIN = { left: 44, right: 12, top: 20, bottom: 22 };

class SpectrogramView {
  constructor(data, canvas, overview) {
    Object.assign(this, { data, canvas, overview });
    this.axis = new TimeAxis(data.seconds, Math.max(0.25, 40 * data.columnSeconds));
    this.images = data.levels.map((level) => level.tiles.map(() => null));
    this.hidden = new Set();
  }

  get plotWidth() {
    return this.width - MARGIN.left - MARGIN.right;
  }

  x(time) {
    return MARGIN.left + ((time - this.axis.start) / this.axis.span) * this.plotWidth;
  }

  time(x) {
    return clamp(this.axis.start + ((x - MARGIN.left) / this.plotWidth) * this.axis.span, 0, this.data.seconds);
  }

  classColor(index) {
    return this.color(index < this.data.curves.length ? `--series-${index}` : "--muted");
  }

  line(context, color, points, width = 1) {
    context.strokeStyle = color.startsWith("--") ? this.color(color) : color;
    context.lineWidth = width;
    context.beginPath();
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
  }

  // Image of a tile, or null while it is decoded, after which everything is drawn again.
  tile(level, index) {
    const loaded = this.images[level][index];
    if (loaded) return loaded.complete ? loaded : null;
    const image = new Image();
    image.onload = () => this.onTile();
    image.src = this.data.levels[level].tiles[index];
    this.images[level][index] = image;
    return null;
  }

  // Draw the coarsest level first: it is seen until finer tiles are decoded.
  drawTiles(context, area, start, end, left, width) {
    const { levels, columnSeconds, levelFactor, tileColumns, origin } = this.data;
    const pixels = (width * devicePixelRatio) / (end - start);
    let finest = levels.length - 1;
    while (finest > 0 && columnSeconds * levelFactor ** finest * pixels > 1.5) finest--;
    context.fillStyle = "#000004";
    context.fillRect(left, area.top, width, area.height);
    for (const level of new Set([levels.length - 1, finest])) {
      const seconds = columnSeconds * levelFactor ** level;
      context.imageSmoothingEnabled = seconds * pixels < 6;
      context.imageSmoothingQuality = "high";
      levels[level].tiles.forEach((_, i) => {
        const first = origin + i * tileColumns * seconds;
        if (first > end || first + tileColumns * seconds < start) return;
        const image = this.tile(level, i);
        if (!image) return;
        const scale = width / (end - start);
        context.drawImage(image, left + (first - start) * scale, area.top, image.width * seconds * scale, area.height);
      });
    }
  }

  // Hatch what could not be read.
  drawGaps(context, area) {
    for (const [start, end] of this.data.gaps) {
      const [left, right] = [this.x(start), this.x(end)];
      context.save();
      context.beginPath();
      context.rect(left, area.top, right - left, area.height);
      context.clip();
      for (let x = left - area.height; x < right; x += 12) {
        this.line(context, "#8b939d", [[x, area.top + area.height], [x + area.height, area.top]], 2);
      }
      context.restore();
    }
  }

  // The whole recording with the part that is shown.
  drawOverview() {
    const context = this.overview.getContext("2d");
    const [width, height] = [this.overview.clientWidth, this.overview.clientHeight];
    const [left, inner, barHeight] = [MARGIN.left, this.plotWidth, 8];
    const x = (time) => left + (time / this.data.seconds) * inner;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.drawTiles(context, { top: 0, height: height - barHeight - 2 }, 0, this.data.seconds, left, inner);
    for (const [start, end, index] of this.data.events) {
      if (this.hidden.has(index)) continue;
      context.fillStyle = this.classColor(index);
      context.fillRect(x(start), height - barHeight, Math.max(1.5, x(end) - x(start)), barHeight);
    }
    const [from, to] = [x(this.axis.start), x(this.axis.end)];
    context.fillStyle = "rgb(0 0 0 / .55)";
    context.fillRect(left, 0, from - left, height - barHeight - 2);
    context.fillRect(to, 0, left + inner - to, height - barHeight - 2);
    for (const [color, lineWidth] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = lineWidth;
      context.strokeRect(from, 2, Math.max(3, to - from), height - barHeight - 6);
    }
  }
}
