// Search as test-time compute: trm/inference/search.py for one trajectory of one puzzle.

import { key } from "./counter_rng.js";

const START = 4; // a stream of random numbers, told apart by this word
const AGAIN = 3; // how much shorter a trajectory thinks after a fresh start
const EVERY = 12; // pins in the time that a model was trained to think
const OF_A_GUESS = 2; // how many times as long it thinks about a guess as about a pin
// Probabilities are float32, and so is what they are compared with.
const UNSURE = Math.fround(1 - 0.98); // that a cell which is pinned may be wrong
const NO_OTHER = Math.fround(0.995); // of two symbols together, above which a cell has no third
const POSSIBLE = Math.fround(0.02); // below which a symbol is not tried
const LESS = 0.25; // of what may be wrong is taken for possible after each fresh start,
const DOUBTS = 4; // so many times

/**
 * A search in depth: pin what is sure, else guess, and take back what contradicts.
 *
 * What it decides upon (`sought`) is never changed, only replaced: the puzzle as it was asked
 * (`question`) and with what was written into it (`xInput`), the model's `state`, the passes to
 * `wait` until the next decision, and the numbers of `guesses` and `restarts`.
 */
export class Searching {
  constructor(task, model, { think = model.NSup, seed = 0 } = {}) {
    this.task = task;
    this.model = model;
    this.seed = seed;
    this.think = think;
    this.every = Math.max(1, Math.floor(think / EVERY));
    this.guesses = []; // {before, cell, untried} of those that may still be taken back
  }

  /** Return the cells whose symbols are guesses. */
  get guessed() {
    return this.guesses.map((guess) => guess.cell);
  }

  /**
   * Pin, guess, take back or start anew.
   *
   * @param sought where the search stands, having waited long enough
   * @param shares probabilities of the tokens of each cell, one after another
   * @param contradicts whether the model says so
   */
  decide(sought, shares, contradicts) {
    const { xInput } = sought;
    const { blank } = this.task;
    const likely = this.likely(shares);
    // A full grid that obeyed the rules would have been an answer.
    const isDead = contradicts || this.task.contradicts(xInput) || !xInput.includes(blank);
    if (!isDead) {
      const pinned = this.pinned(sought, likely);
      if (pinned.some((token, cell) => token !== xInput[cell])) {
        return { ...sought, xInput: pinned, wait: this.every, decision: "pin" };
      }
      this.guesses.push(this.guess(sought, likely));
    }
    return this.tryNext(sought, isDead ? "take back" : "guess");
  }

  /** Return the probabilities of the symbols of each cell, those of other tokens left out. */
  likely(shares) {
    const { cells, vocabSize, blank } = this.task;
    return Array.from({ length: cells }, (_, cell) =>
      shares.subarray(cell * vocabSize + blank + 1, (cell + 1) * vocabSize),
    );
  }

  pinned({ xInput, restarts }, likely) {
    const { blank } = this.task;
    const sure = Math.fround(1 - UNSURE * doubt(restarts));
    return xInput.map((token, cell) => {
      const most = Math.max(...likely[cell]);
      return token === blank && most > sure ? likely[cell].indexOf(most) + blank + 1 : token;
    });
  }

  guess(before, likely) {
    const { blank } = this.task;
    const cell = cellToGuess(
      before.xInput.map((token) => token === blank),
      likely,
    );
    const share = likely[cell];
    const symbols = Array.from(share.keys()).sort((a, b) => share[b] - share[a]);
    const least = Math.min(share[symbols[0]], POSSIBLE * doubt(before.restarts));
    const possible = symbols.filter((symbol) => share[symbol] >= least);
    return { before, cell, untried: possible.map((symbol) => symbol + blank + 1) };
  }

  /** Try the next symbol of the last guess that has one, or start anew. */
  tryNext(here, decision) {
    while (this.guesses.length && !this.guesses.at(-1).untried.length) this.guesses.pop();
    const last = this.guesses.at(-1);
    if (!last) return this.anew(here);
    const xInput = last.before.xInput.slice();
    xInput[last.cell] = last.untried.shift();
    const { state } = last.before;
    const wait = OF_A_GUESS * this.every;
    return { ...here, xInput, state, wait, guesses: here.guesses + 1, decision };
  }

  anew(here) {
    return {
      ...here,
      xInput: here.question,
      state: this.model.randomState(key(this.seed, START, 0, here.restarts)),
      wait: Math.max(1, Math.floor(this.think / AGAIN)),
      restarts: here.restarts + 1,
      decision: "anew",
    };
  }
}

/**
 * Return by how much less likely errors must be after so many fresh starts.
 *
 * A search that has tried everything it held for possible has pinned or ruled out too much.
 */
function doubt(restarts) {
  return LESS ** Math.min(restarts, DOUBTS);
}

/**
 * Choose the cell whose guess says most.
 *
 * Of the cells that have two possible symbols the least decided one: if the guess is wrong, the
 * other symbol is certain. If there is none, the cell whose two likeliest symbols have most.
 */
export function cellToGuess(isOpen, likely) {
  let best = -1;
  let found = 0;
  for (const [cell, share] of likely.entries()) {
    if (!isOpen[cell]) continue;
    const [most, second] = twoGreatest(share);
    const two = Math.fround(most + second);
    const worth = two > NO_OTHER ? Math.fround(2 - most) : two;
    if (worth > best) [best, found] = [worth, cell];
  }
  return found;
}

function twoGreatest(share) {
  let [most, second] = [-1, -1];
  for (const value of share) {
    if (value > most) [most, second] = [value, most];
    else if (value > second) second = value;
  }
  return [most, second];
}
