// What the view of a recording reads, from the server's answer about a sound.
import { axisFrequencies, frequencyTicks } from "./axes.js";

// Classes with a color and a curve; more could not be told apart.
const MAX_CURVES = 8;
const BLANK_COLUMNS = 1000;

export async function viewData(result, thresholdOf) {
  const { windows, events } = result;
  const names = shownClasses(result);
  const index = new Map(names.map((name, i) => [name, i]));
  return {
    ...(await spectrogramData(result)),
    seconds: result.seconds,
    origin: 0,
    levelFactor: 1,
    gaps: [],
    names,
    window: windows?.seconds ?? null,
    hop: windows?.hop ?? null,
    curves: windows ? names.slice(0, MAX_CURVES).map((name) => curve(windows, name, thresholdOf(name))) : [],
    events: events.map(({ start, end, label, probability }) => [start, end, index.get(label), probability]),
    annotations: [],
  };
}

// First the classes with events, then others, each by the highest probability of a window.
function shownClasses({ windows, events }) {
  if (!windows) return [...new Set(events.map(({ label }) => label))];
  const highest = new Map(windows.classes.map((name) => [name, 0]));
  for (const row of windows.probabilities) {
    row.forEach((value, i) => highest.set(windows.classes[i], Math.max(value ?? 0, highest.get(windows.classes[i]))));
  }
  const byHighest = (a, b) => highest.get(b) - highest.get(a);
  const withEvents = [...new Set(events.map(({ label }) => label))].sort(byHighest);
  const others = windows.classes.filter((name) => !withEvents.includes(name)).sort(byHighest);
  return [...withEvents, ...others.slice(0, Math.max(0, MAX_CURVES - withEvents.length))];
}

// Probabilities of a class in thousandths; null is a window that cannot be read.
function curve(windows, name, threshold) {
  const column = windows.classes.indexOf(name);
  const scores = windows.probabilities.map((row) => (row[column] == null ? null : Math.round(1000 * row[column])));
  return { threshold, scores };
}

async function spectrogramData({ spectrogram, seconds }) {
  if (!spectrogram) {
    return { columnSeconds: seconds / BLANK_COLUMNS, tileColumns: BLANK_COLUMNS, levels: [{ tiles: [] }], frequencies: [], bands: [0, 0] };
  }
  const image = new Image();
  image.src = spectrogram.image;
  await image.decode();
  return {
    columnSeconds: spectrogram.seconds / image.width,
    tileColumns: image.width,
    levels: [{ tiles: [spectrogram.image] }],
    frequencies: frequencyTicks(spectrogram.min_hz, spectrogram.max_hz),
    bands: axisFrequencies(spectrogram.min_hz, spectrogram.max_hz),
  };
}
