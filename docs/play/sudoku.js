// Sudoku of any box shape, as in trm/tasks/sudoku.py: PAD 0, blank 1, digit d is d + 1.

import { cellName, tokensOf } from "./grid.js";

const DIGITS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const BLANKS = ".0_*?";
const PAD = 0;
const BLANK = 1;
const RULER = /^[-+=|\s]*$/;
const BETWEEN = /[\s|,;]/g;

export class Sudoku {
  constructor([boxRows, boxCols]) {
    this.game = "sudoku";
    this.side = boxRows * boxCols;
    this.cells = this.side ** 2;
    this.boxes = [boxRows, boxCols];
    this.vocabSize = this.side + 2;
    this.blank = BLANK;
    this.erased = BLANK;
    this.name = `Sudoku ${this.side}×${this.side}`;
    this.digits = DIGITS.slice(0, this.side);
    const box = (row, col) =>
      Math.floor(row / boxRows) * boxRows + Math.floor(col / boxCols);
    this.units = Array.from({ length: 3 * this.side }, () => []);
    this.unitsOfCell = [];
    for (let cell = 0; cell < this.cells; cell++) {
      const [row, col] = this.place(cell);
      const units = [row, this.side + col, 2 * this.side + box(row, col)];
      for (const unit of units) this.units[unit].push(cell);
      this.unitsOfCell.push(units);
    }
  }

  place(cell) {
    return [Math.floor(cell / this.side), cell % this.side];
  }

  /** Turn text into tokens; rulers, spaces and bars are no cells. Throws an Error in words. */
  encode(text) {
    const takes = `1 to ${this.digits.at(-1)}, and . 0 or _ for a blank`;
    return tokensOf(this, symbolsOf(text), { what: "puzzle", takes });
  }

  decode(tokens) {
    return Array.from(tokens, (token) => (token <= BLANK ? "." : this.face(token))).join("");
  }

  /** Return what a symbol, typed or pasted, means; null if nothing. */
  tokenOfKey(symbol) {
    if (BLANKS.includes(symbol) || symbol === " ") return BLANK;
    const digit = symbol.length === 1 ? this.digits.indexOf(symbol.toUpperCase()) : -1;
    return digit < 0 ? null : digit + 2;
  }

  empty() {
    return new Uint8Array(this.cells).fill(BLANK);
  }

  /** Return a grid with one cell changed. */
  written(grid, cell, token) {
    return grid.with(cell, token);
  }

  face(token) {
    return token <= BLANK ? "" : DIGITS[token - 2];
  }

  /** Say what a token is, for its looks and for those who hear it. */
  kind(token) {
    return token <= BLANK ? "blank" : "digit";
  }

  say(token) {
    return token <= BLANK ? "empty" : this.face(token);
  }

  isGiven(token) {
    return token !== BLANK;
  }

  cellName(cell) {
    return cellName(this, cell);
  }

  /** Say in words which rule a grid breaks, and where: {words, cells}; null if none. */
  explain(grid) {
    for (const [number, unit] of this.units.entries()) {
      for (let token = BLANK + 1; token < this.vocabSize; token++) {
        const cells = unit.filter((cell) => grid[cell] === token);
        if (cells.length < 2) continue;
        const kind = ["row", "column", "box"][Math.floor(number / this.side)];
        const words = `two ${this.face(token)}s in ${kind} ${(number % this.side) + 1}`;
        return { words, cells };
      }
    }
    return null;
  }

  /** Tell whether an answer has every digit once in every unit and keeps all clues. */
  isValid(xInput, y) {
    const keepsClues = xInput.every((token, cell) => token === BLANK || token === y[cell]);
    const whole = (unit) =>
      new Set(unit.map((cell) => y[cell])).size === this.side &&
      unit.every((cell) => y[cell] > BLANK);
    return keepsClues && this.units.every(whole);
  }

  /** Tell whether a digit stands twice in a unit, or a cell or digit has nothing left to it. */
  contradicts(xInput) {
    const held = this.units.map((unit) => unit.map((cell) => xInput[cell]));
    const left = (cell, token) =>
      xInput[cell] === token ||
      (xInput[cell] === BLANK &&
        !this.unitsOfCell[cell].some((unit) => held[unit].includes(token)));
    const tokens = Array.from({ length: this.side }, (_, digit) => digit + BLANK + 1);
    const twice = this.explain(xInput) !== null;
    const lost = (_, cell) => xInput[cell] === PAD || !tokens.some((token) => left(cell, token));
    const homeless = (unit) =>
      tokens.some((token) => !unit.some((cell) => left(cell, token)));
    return twice || Array.from(xInput).some(lost) || this.units.some(homeless);
  }

  describe(xInput) {
    const clues = xInput.filter((token) => token !== BLANK).length;
    return `${this.name}, ${clues} clue${clues === 1 ? "" : "s"}`;
  }

  describeAnswer() {
    return "every row, column and box holds each digit once";
  }
}

/** Return the number of cells that a text has. */
Sudoku.cellsIn = (text) => symbolsOf(text).length;

function symbolsOf(text) {
  const lines = text.split("\n").filter((line) => !RULER.test(line));
  return Array.from(lines.join("").replace(BETWEEN, ""));
}
