// One trajectory of one puzzle, pass by pass: trm/inference/rollouts.py at a batch of one.

import { argmax, probabilities } from "./model.js";
import { Searching } from "./search.js";

const STEPS = 16; // supervision steps at least
const SEARCH_STEPS = 60; // with a search, times as many as in training

/** Return how many passes a puzzle may take, as Python's `default_compute` says. */
export function defaultMaxSteps(task, model, search) {
  const searches = search && task.blank !== null;
  return searches ? SEARCH_STEPS * model.NSup : Math.max(STEPS, model.NSup);
}

/**
 * Think, and yield what every pass gave, up to the first valid answer or `maxSteps`.
 *
 * @param question tokens
 * @param options.seed of the start and of the search's fresh starts
 * @param options.maxSteps as many as in Python unless given
 */
export async function* trajectory(model, task, question, options = {}) {
  const { search = false, seed = 0 } = options;
  const maxSteps = options.maxSteps ?? defaultMaxSteps(task, model, search);
  const searching = search && task.blank !== null ? new Searching(task, model, { seed }) : null;
  const state = model.initialState(seed);
  const wait = searching?.think ?? Infinity;
  let sought = { question, xInput: question, state, wait, guesses: 0, restarts: 0 };
  for (let steps = 1; steps <= maxSteps; steps++) {
    const { xInput, guesses, restarts } = sought;
    const guessed = searching?.guessed ?? [];
    const start = performance.now();
    const out = await model.step(xInput, sought.state);
    const shares = probabilities(out.yHat, task.vocabSize);
    const y = argmax(out.yHat, task.vocabSize);
    const valid = task.isValid(question, y);
    const ended = valid || steps === maxSteps;
    sought = { ...sought, state: out.state, wait: sought.wait - 1, decision: null };
    if (!ended && sought.wait <= 0) {
      sought = searching.decide(sought, shares, out.contradiction > 0);
    }
    const time = performance.now() - start;
    const { decision } = sought;
    const said = { y, shares, valid, ended, qHat: out.qHat };
    yield { steps, maxSteps, xInput, guesses, restarts, guessed, decision, time, ...said };
    if (ended) return;
  }
}
