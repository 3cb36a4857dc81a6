// One exported supervision step, and the states it starts from.

import * as ort from "./ort.wasm.min.mjs";
import { key, normal } from "./counter_rng.js";

ort.env.wasm.numThreads = 1; // more would need headers that a static host does not send

export class Model {
  /**
   * Open a step.
   *
   * @param about its entry in models.json
   * @param read gives the bytes of a file, as a promise
   */
  static async load(about, read) {
    const [step, start] = await Promise.all([read(about.file), read(about.start)]);
    const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
    const session = await ort.InferenceSession.create(new Uint8Array(step), options);
    return new Model(about, session, new Float32Array(start));
  }

  constructor(about, session, start) {
    this.session = session;
    this.start = start; // features of y and z
    this.shapes = [about.shapes.y, about.shapes.z]; // of one puzzle
    this.vocabSize = about.vocab_size;
    this.NSup = about.N_sup; // supervision steps per puzzle in training, at most
  }

  /**
   * Return the start of a seed: the standard normals of that key.
   *
   * Those of seed 0, where Python starts, are read from a file: its cosines and ours may differ in
   * the last bit.
   */
  initialState(seed) {
    const drawn = seed === 0 ? this.start : normal(BigInt(seed), this.start.length);
    const cut = size(this.shapes[0]);
    return [drawn.slice(0, cut), drawn.slice(cut)];
  }

  /** Return standard normals for every feature: `disturbed(state, keys, 0, 1)`. */
  randomState(keys) {
    return this.shapes.map((shape, number) => normal(key(keys, number), size(shape)));
  }

  /** Take one supervision step with one puzzle. */
  async step(xInput, [y, z]) {
    const tokens = BigInt64Array.from(xInput, BigInt);
    const out = await this.session.run({
      x_input: new ort.Tensor("int64", tokens, [1, xInput.length]),
      y: new ort.Tensor("float32", y, [1, ...this.shapes[0]]),
      z: new ort.Tensor("float32", z, [1, ...this.shapes[1]]),
    });
    return {
      yHat: out.y_hat.data,
      qHat: out.q_hat.data[0],
      contradiction: out.contradiction?.data[0] ?? null,
      state: [out.y_next.data, out.z_next.data],
    };
  }
}

/** Return the token of each cell that has the greatest logit. */
export function argmax(yHat, vocabSize) {
  return Uint8Array.from({ length: yHat.length / vocabSize }, (_, cell) => {
    const logits = yHat.subarray(cell * vocabSize, (cell + 1) * vocabSize);
    return logits.indexOf(Math.max(...logits));
  });
}

/** Return the probabilities of all tokens of each cell (softmax), in one float32 array. */
export function probabilities(yHat, vocabSize) {
  const shares = new Float32Array(yHat.length);
  for (let first = 0; first < yHat.length; first += vocabSize) {
    const logits = yHat.subarray(first, first + vocabSize);
    const most = Math.max(...logits);
    let sum = 0;
    for (const logit of logits) sum += Math.exp(logit - most);
    for (let t = 0; t < vocabSize; t++) shares[first + t] = Math.exp(logits[t] - most) / sum;
  }
  return shares;
}

const size = (shape) => shape.reduce((product, side) => product * side, 1);
