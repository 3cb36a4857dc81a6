// Calls the page's own code without a browser: node page.mjs FOLDER NAME < arguments > result.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, name] = process.argv.slice(2);
const module = (file) => import(pathToFileURL(resolve(folder, file)).href);
const [{ Model }, { Searching }, { trajectory }, { Sudoku }, { Maze }, random] = await Promise.all(
  ["model.js", "search.js", "solver.js", "sudoku.js", "maze.js", "counter_rng.js"].map(module),
);
const published = JSON.parse(readFileSync(join(folder, "models.json"), "utf8"));

function taskOf(game, side) {
  return game === "maze" ? new Maze(side) : new Sudoku(published.sudoku.sizes[side].boxes);
}

const readBytes = (file) => new Uint8Array(readFileSync(join(folder, file))).buffer;

const calls = {
  /** Think about puzzles, and return the last pass of each. */
  async solve({ game, side, puzzles, options }) {
    const model = await Model.load(published[game].sizes[side], async (file) => readBytes(file));
    const task = taskOf(game, side);
    const found = [];
    for (const puzzle of puzzles) {
      let last;
      for await (last of trajectory(model, task, task.encode(puzzle), options));
      const { y, valid, steps, guesses, restarts } = last;
      found.push({ answer: task.decode(y), valid, steps, guesses, restarts });
    }
    return found;
  },

  /** Let a search decide again and again, on probabilities that are given to it. */
  decide({ side, question, rounds }) {
    const task = taskOf("sudoku", side);
    const model = { NSup: 24, randomState: (keys) => `state of ${keys}` };
    const searching = new Searching(task, model);
    let sought = { question: Uint8Array.from(question), guesses: 0, restarts: 0, wait: 0 };
    sought = { ...sought, xInput: sought.question };
    return rounds.map(({ state, shares, contradicts }) => {
      sought = searching.decide({ ...sought, state }, Float32Array.from(shares), contradicts);
      return { ...sought, xInput: Array.from(sought.xInput), question: undefined };
    });
  },

  /** Judge grids by the rules. */
  judge({ game, side, grids }) {
    const task = taskOf(game, side);
    return grids.map(([question, answer]) => {
      const [x, y] = [Uint8Array.from(question), Uint8Array.from(answer)];
      const contradicts = task.contradicts?.(x) ?? null;
      return { refused: task.explain(x) !== null, valid: task.isValid(x, y), contradicts };
    });
  },

  random({ words, count }) {
    const key = random.key(...words);
    const draws = Array.from({ length: count }, (_, index) => String(random.draw(key, index)));
    return { key: String(BigInt.asIntN(64, key)), draws };
  },

  start({ game, side, seed }) {
    const about = published[game].sizes[side];
    const start = new Float32Array(readBytes(about.start));
    return Array.from(new Model(about, null, start).initialState(seed)[0]);
  },

  read: ({ game, side, text }) => Array.from(taskOf(game, side).encode(text)),
};

const input = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(await calls[name](input)));
