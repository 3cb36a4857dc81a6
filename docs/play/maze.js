// Mazes, as in trm/tasks/maze.py: mark a shortest path from S to G over open cells.

import { cellName, tokensOf } from "./grid.js";

const [WALL, SPACE, START, GOAL] = [1, 2, 3, 4];
export const PATH = 5;
const SYMBOLS = { "#": WALL, "█": WALL, " ": SPACE, ".": SPACE, S: START, G: GOAL, E: GOAL };
const WORDS = ["nothing", "wall", "open", "start", "goal", "path"];

export class Maze {
  constructor(side) {
    this.game = "maze";
    this.side = side;
    this.cells = side ** 2;
    this.boxes = null;
    this.vocabSize = 6;
    this.blank = null; // nothing to search: a cell may stay as it is
    this.erased = SPACE;
    this.name = `Maze ${side}×${side}`;
  }

  /** Turn text, of one line or several, into tokens. Throws an Error in words. */
  encode(text) {
    const lines = linesOf(text);
    const isGrid = lines.length > 1;
    const symbols = isGrid ? lines.map((line) => line.padEnd(this.side)).join("") : lines[0];
    const takes = "# for a wall, . or a space for an open cell, S and G";
    const fits = symbols.length === this.cells && (!isGrid || lines.length === this.side);
    return tokensOf(this, symbols, { what: "maze", takes, fits });
  }

  decode(tokens) {
    const rows = [];
    for (let first = 0; first < this.cells; first += this.side) {
      const row = Array.from(tokens.subarray(first, first + this.side), (t) => "?#.SGo"[t]);
      rows.push(row.join(""));
    }
    return rows.join("\n");
  }

  tokenOfKey(symbol) {
    return SYMBOLS[symbol.toUpperCase()] ?? null;
  }

  /** Return an open grid, S and G in opposite corners. */
  empty() {
    const grid = new Uint8Array(this.cells).fill(SPACE);
    grid[0] = START;
    grid[this.cells - 1] = GOAL;
    return grid;
  }

  face(token) {
    return token === START ? "S" : token === GOAL ? "G" : "";
  }

  kind(token) {
    return WORDS[token];
  }

  say(token) {
    return WORDS[token];
  }

  isGiven(token) {
    return token !== SPACE;
  }

  cellName(cell) {
    return cellName(this, cell);
  }

  /** Return a maze with one cell changed: there is one start and one goal, whatever is drawn. */
  written(grid, cell, token, isStroke = false) {
    if (isStroke && token < START && grid[cell] >= START) return grid;
    const changed = grid.slice();
    if (token === START || token === GOAL) {
      const before = changed.indexOf(token);
      if (before >= 0) changed[before] = SPACE;
    }
    changed[cell] = token;
    return changed;
  }

  explain(grid) {
    for (const [token, symbol] of [[START, "S"], [GOAL, "G"]]) {
      const ends = grid.filter((other) => other === token).length;
      if (ends !== 1) {
        const words = `the maze has ${ends} cells ${symbol} instead of one`;
        return { words, cells: [] };
      }
    }
    const marks = [...grid.keys()].filter((cell) => grid[cell] < WALL || grid[cell] > GOAL);
    if (marks.length) {
      return { words: `${this.cellName(marks[0])} is neither wall nor open`, cells: marks };
    }
    return this.pathCells(grid) ? null : { words: "there is no path from S to G", cells: [] };
  }

  /** Tell whether an answer keeps the maze and marks one path, unbroken and without branches. */
  isValid(xInput, y) {
    const kept = (token, cell) =>
      y[cell] === token || (token === SPACE && y[cell] === PATH);
    const isMarked = (cell) => y[cell] >= START;
    const unbranched = (token, cell) =>
      token < START || this.neighbours(cell).filter(isMarked).length === (token === PATH ? 2 : 1);
    if (!xInput.every(kept) || !y.every(unbranched)) return false;
    const far = this.distances(y.indexOf(START), isMarked);
    return y.every((token, cell) => token < START || far[cell] >= 0);
  }

  /** Count the cells of a shortest path, both ends included; 0 if there is none. */
  pathCells(grid) {
    const far = this.distances(grid.indexOf(START), (cell) => grid[cell] !== WALL);
    return far[grid.indexOf(GOAL)] + 1;
  }

  neighbours(cell) {
    const col = cell % this.side;
    const around = [cell - this.side, cell + this.side];
    if (col > 0) around.push(cell - 1);
    if (col < this.side - 1) around.push(cell + 1);
    return around.filter((other) => other >= 0 && other < this.cells);
  }

  /** Count steps from a cell over open ones; -1 if out of reach. */
  distances(start, isOpen) {
    const far = new Int32Array(this.cells).fill(-1);
    far[start] = 0;
    for (let front = [start]; front.length; ) {
      const next = [];
      for (const cell of front) {
        for (const other of this.neighbours(cell)) {
          if (far[other] >= 0 || !isOpen(other)) continue;
          far[other] = far[cell] + 1;
          next.push(other);
        }
      }
      front = next;
    }
    return far;
  }

  describe(grid) {
    const cells = this.pathCells(grid);
    return cells ? `${this.name}, a shortest path has ${cells} cells` : this.name;
  }

  describeAnswer(xInput, y) {
    const length = y.filter((token) => token === PATH).length + 2;
    const shortest = this.pathCells(xInput);
    if (length === shortest) return `a shortest path, ${length} cells`;
    return `an unbroken path of ${length} cells, where the shortest has ${shortest}`;
  }
}

/** Return the number of cells that a text has. */
Maze.cellsIn = (text) => {
  const lines = linesOf(text);
  return lines.length > 1 ? lines.length ** 2 : (lines[0]?.length ?? 0);
};

function linesOf(text) {
  const lines = text.replaceAll("\r", "").split("\n");
  while (lines.length && !lines.at(-1).trim()) lines.pop();
  while (lines.length && !lines[0].trim()) lines.shift();
  return lines.length ? lines : [""];
}
