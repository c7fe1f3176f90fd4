// Axes of spectrograms: Slaney's mel scale, as the features have it.
const HZ_PER_MEL = 200 / 3, LOG_START_HZ = 1000, LOG_START_MEL = LOG_START_HZ / HZ_PER_MEL, LOG_STEP = Math.log(6.4) / 27;
// Powers of two times 1 kHz are easiest to read on a logarithmic axis.
const TICKS = [0, 64, 128, 256, 512, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000];
const MIN_TICK_DISTANCE = 0.115, POINTS = 33;

const hzToMel = (hz) => (hz < LOG_START_HZ ? hz / HZ_PER_MEL : LOG_START_MEL + Math.log(hz / LOG_START_HZ) / LOG_STEP);
const melToHz = (mel) => (mel < LOG_START_MEL ? mel * HZ_PER_MEL : LOG_START_HZ * Math.exp(LOG_STEP * (mel - LOG_START_MEL)));

// Round frequencies in Hz and their positions on the axis, 0 (bottom) to 1 (top).
export function frequencyTicks(minHz, maxHz) {
  const [low, high] = [hzToMel(minHz), hzToMel(maxHz)];
  const ticks = [];
  for (const hz of TICKS) {
    const position = (hzToMel(hz) - low) / (high - low);
    if (position < 0 || position > 1 || position - (ticks.at(-1)?.[1] ?? -1) < MIN_TICK_DISTANCE) continue;
    ticks.push([hz, position]);
  }
  return ticks;
}

// Frequencies in Hz of evenly spaced points of the axis, bottom to top.
export function axisFrequencies(minHz, maxHz) {
  const [low, high] = [hzToMel(minHz), hzToMel(maxHz)];
  return Array.from({ length: POINTS }, (_, i) => melToHz(low + ((high - low) * i) / (POINTS - 1)));
}
