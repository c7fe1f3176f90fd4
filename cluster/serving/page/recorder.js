// Recording of the microphone as a 16-bit WAV file, which every server reads.
const BYTES_PER_SAMPLE = 2, HEADER_BYTES = 44;

export class Recorder {
  // Browsers give the microphone only to pages from this host or over HTTPS.
  static get isAvailable() {
    return Boolean(navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode);
  }

  // Ask for the microphone and start; `onBlock` gets the samples of each block.
  static async start(onBlock) {
    // Without the filters of calls, which remove everything but speech.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule("page/recorder_worklet.js");
    } catch (error) {
      stop(stream, context);
      throw error;
    }
    return new Recorder(stream, context, onBlock);
  }

  constructor(stream, context, onBlock) {
    Object.assign(this, { stream, context, blocks: [], length: 0 });
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => {
      this.blocks.push(data);
      this.length += data.length;
      onBlock(data);
    };
    context.createMediaStreamSource(stream).connect(node);
  }

  get seconds() {
    return this.length / this.context.sampleRate;
  }

  get bytes() {
    return HEADER_BYTES + BYTES_PER_SAMPLE * this.length;
  }

  // End the recording and return it as a file.
  finish() {
    const rate = this.context.sampleRate;
    this.discard();
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    return new File([encodeWav(this.blocks, this.length, rate)], `recording-${time}.wav`, { type: "audio/wav" });
  }

  discard() {
    stop(this.stream, this.context);
  }
}

function stop(stream, context) {
  for (const track of stream.getTracks()) track.stop();
  context.close();
}

// Encode blocks of mono samples in [-1, 1].
function encodeWav(blocks, length, rate) {
  const bytes = new DataView(new ArrayBuffer(HEADER_BYTES + BYTES_PER_SAMPLE * length));
  const text = (offset, value) => [...value].forEach((letter, i) => bytes.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  bytes.setUint32(4, bytes.byteLength - 8, true);
  text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true); // size of the format
  bytes.setUint16(20, 1, true); // integer samples
  bytes.setUint16(22, 1, true); // channels
  bytes.setUint32(24, rate, true);
  bytes.setUint32(28, rate * BYTES_PER_SAMPLE, true);
  bytes.setUint16(32, BYTES_PER_SAMPLE, true);
  bytes.setUint16(34, 8 * BYTES_PER_SAMPLE, true);
  text(36, "data");
  bytes.setUint32(40, BYTES_PER_SAMPLE * length, true);
  let offset = HEADER_BYTES;
  for (const block of blocks) {
    for (const sample of block) {
      bytes.setInt16(offset, Math.round(32767 * Math.min(1, Math.max(-1, sample))), true);
      offset += BYTES_PER_SAMPLE;
    }
  }
  return bytes;
}
