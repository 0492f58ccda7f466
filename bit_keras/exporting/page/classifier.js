// The classifier, in a thread of its own: bitmaps in, probabilities out.

import * as ort from "./onnxruntime.js";

const SHOWN = 5; // classes of an answer

async function get(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}

async function load() {
  const model = await (await get("model.json")).json();
  const total = Object.values(model.bytes).reduce((a, b) => a + b);
  let loaded = 0;

  async function download(name) {
    const bytes = new Uint8Array(model.bytes[name]);
    const reader = (await get(name)).body.getReader();
    let offset = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      bytes.set(part.value, offset);
      offset += part.value.length;
      loaded += part.value.length;
      postMessage({ loaded: loaded / total });
    }
    if (offset !== bytes.length) throw new Error(`${name} ends after ${offset} bytes`);
    return bytes;
  }

  const [wasm, onnx] = await Promise.all(["onnxruntime.wasm", "model.onnx"].map(download));
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.numThreads = 1; // several need headers that plain file servers do not send
  return { ...model, session: await ort.InferenceSession.create(onnx) };
}

/** Where pixels of a side resized to `size` lie between two of its `length` ones. */
function neighbors(length, size) {
  return Array.from({ length: size }, (_, i) => {
    const at = Math.min(Math.max(((i + 0.5) * length) / size - 0.5, 0), length - 1);
    const first = Math.floor(at);
    return { first, second: Math.min(first + 1, length - 1), weight: at - first };
  });
}

/**
 * As the model was tested: the whole picture as a square, or the center of a copy whose short side
 * is `resize`; bilinear, not antialiased as canvases do it; RGB in [0, 1].
 */
function prepared(bitmap, { size, resize }) {
  const { width, height } = bitmap;
  const short = Math.min(width, height);
  const used = (side) => {
    if (!resize) return neighbors(side, size);
    const whole = Math.floor((side * resize + Math.floor(short / 2)) / short);
    const start = Math.floor((whole - size) / 2);
    return neighbors(side, whole).slice(start, start + size);
  };
  const [rows, columns] = [used(height), used(width)];
  // Two rows of the picture for each of the result are enough, and fit the canvas of any phone.
  const canvas = new OffscreenCanvas(width, 2 * size);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  rows.forEach(({ first, second }, y) => {
    const count = second - first + 1;
    context.drawImage(bitmap, 0, first, width, count, 0, 2 * y, width, count);
  });
  const { data } = context.getImageData(0, 0, width, 2 * size);
  const pixels = new Float32Array(size * size * 3);
  let next = 0;
  rows.forEach((row, y) => {
    for (const column of columns) {
      for (let channel = 0; channel < 3; channel++) {
        const between = (line) => {
          const left = data[4 * (line * width + column.first) + channel];
          const right = data[4 * (line * width + column.second) + channel];
          return left + (right - left) * column.weight;
        };
        const top = between(2 * y);
        const bottom = between(2 * y + row.second - row.first);
        pixels[next++] = (top + (bottom - top) * row.weight) / 255;
      }
    }
  });
  return pixels;
}

function softmax(logits) {
  const highest = logits.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

function sigmoid(logits) {
  return Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)));
}

const loading = load();
loading.then(
  ({ session, ...model }) => postMessage({ model }),
  (error) => postMessage({ reason: error.message ?? error }),
);

onmessage = async ({ data: { id, bitmap } }) => {
  const { session, labels, ...model } = await loading;
  const start = performance.now();
  try {
    const shape = [1, model.size, model.size, 3];
    const images = new ort.Tensor("float32", prepared(bitmap, model), shape);
    const { logits } = await session.run({ images });
    const ranking = (model.loss === "sigmoid" ? sigmoid : softmax)(logits.data)
      .map((probability, n) => ({ label: labels[n], probability }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, SHOWN);
    postMessage({ id, ranking, milliseconds: performance.now() - start });
  } catch (error) {
    postMessage({ id, error: error.message ?? error });
  }
};
