// The grid: it shows a puzzle and what is thought of it, and takes what is typed or drawn.

import { PATH } from "./maze.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const ERASERS = ["Backspace", "Delete"];

export class Board {
  /**
   * @param element that becomes the grid
   * @param on.write (cell, token, isStroke) writes; a token of null erases
   * @param on.brush (cell) returns the token that a stroke beginning there draws, or null for none
   * @param on.enter, on.escape, on.paste (text), on.look (cell or null)
   */
  constructor(element, on) {
    this.element = element;
    this.on = on;
    this.brush = null; // while a stroke is being drawn
    element.addEventListener("keydown", (event) => this.keydown(event));
    element.addEventListener("focusin", (event) => this.look(event));
    element.addEventListener("pointerover", (event) => this.look(event));
    element.addEventListener("pointerleave", () => on.look(null));
    element.addEventListener("pointerdown", (event) => this.pointerdown(event));
    element.addEventListener("pointermove", (event) => this.pointermove(event));
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, () => (this.brush = null));
    }
    element.addEventListener("paste", (event) => {
      event.preventDefault();
      on.paste(event.clipboardData.getData("text/plain"));
    });
  }

  /** Make the cells of a task. */
  open(task) {
    this.task = task;
    this.drawn = [];
    this.at = 0;
    this.element.replaceChildren();
    this.element.dataset.game = task.game;
    this.element.style.setProperty("--side", task.side);
    this.element.setAttribute("aria-label", task.name);
    for (let row = 0; row < task.side; row++) {
      const line = document.createElement("div");
      line.setAttribute("role", "row");
      for (let col = 0; col < task.side; col++) line.append(this.newCell(row, col));
      this.element.append(line);
    }
    this.cells = [...this.element.querySelectorAll(".cell")];
    this.cells[0].tabIndex = 0;
  }

  newCell(row, col) {
    const cell = document.createElement("div");
    cell.className = "cell";
    cell.setAttribute("role", "gridcell");
    cell.tabIndex = -1;
    cell.dataset.cell = row * this.task.side + col;
    const { boxes } = this.task;
    if (boxes && col && col % boxes[1] === 0) cell.classList.add("box-left");
    if (boxes && row && row % boxes[0] === 0) cell.classList.add("box-top");
    return cell;
  }

  /**
   * Draw the puzzle, and a pass if there is one.
   *
   * @param question tokens
   * @param pass what `trajectory` gave, or null
   * @param marked numbers of cells: those that are `wrong`, those that `clash`
   */
  draw(question, pass, { wrong = [], clash = [] } = {}) {
    const [wrongs, clashes] = [new Set(wrong), new Set(clash)];
    for (const cell of this.cells.keys()) {
      const looks = this.looks(cell, question, pass);
      looks.wrong = wrongs.has(cell);
      looks.clash = clashes.has(cell);
      const key = JSON.stringify(looks);
      if (this.drawn[cell] === key) continue;
      this.drawn[cell] = key;
      this.paint(this.cells[cell], cell, looks);
    }
  }

  looks(cell, question, pass) {
    const { task } = this;
    if (!pass) {
      const role = task.isGiven(question[cell]) ? "given" : "open";
      return { token: question[cell], role, heat: 0 };
    }
    const token = pass.y[cell];
    const first = cell * task.vocabSize;
    // A Sudoku glows where it doubts, a maze where it sees the path.
    const shown = task.game === "maze" ? pass.shares[first + PATH] : 1 - pass.shares[first + token];
    const heat = Math.round(64 * shown) / 64;
    if (task.isGiven(question[cell]) && token === question[cell]) {
      return { token, role: "given", heat: 0 };
    }
    if (pass.xInput[cell] !== question[cell]) {
      return { token, role: pass.guessed.includes(cell) ? "guessed" : "pinned", heat: 0 };
    }
    return { token, role: "answer", heat };
  }

  paint(element, cell, { token, role, heat, wrong, clash }) {
    const { task } = this;
    element.textContent = task.face(token);
    Object.assign(element.dataset, { kind: task.kind(token), role, wrong, clash });
    element.style.setProperty("--heat", heat);
    const words = { given: "given", pinned: "written by the search", guessed: "a guess" }[role];
    const said = [`${task.cellName(cell)}: ${task.say(token)}`];
    if (words && token !== task.blank && task.game === "sudoku") said.push(words);
    if (wrong) said.push("wrong");
    if (clash) said.push("contradicts another clue");
    element.setAttribute("aria-label", said.join(", "));
  }

  focus(cell = this.at) {
    this.cells[this.at].tabIndex = -1;
    this.at = cell;
    this.cells[cell].tabIndex = 0;
    this.cells[cell].focus({ preventScroll: true });
  }

  keydown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
    const { task, at } = this;
    const [row, col] = [Math.floor(at / task.side), at % task.side];
    const last = task.side - 1;
    if (event.key in STEPS) {
      const [down, right] = STEPS[event.key];
      const there = [row + down, col + right].map((place) => Math.min(Math.max(place, 0), last));
      this.focus(there[0] * task.side + there[1]);
    } else if (event.key === "Home") this.focus(row * task.side);
    else if (event.key === "End") this.focus(row * task.side + last);
    else if (event.key === "Enter") this.on.enter();
    else if (event.key === "Escape") this.on.escape();
    else if (ERASERS.includes(event.key)) this.on.write(at, null);
    else if (event.key === " " && task.game === "maze") this.on.write(at, this.on.brush(at));
    else if (event.key.length === 1 && task.tokenOfKey(event.key) !== null) {
      this.on.write(at, task.tokenOfKey(event.key));
    } else return;
    event.preventDefault();
  }

  look(event) {
    const cell = cellOf(event.target);
    if (cell === null) return;
    if (event.type === "focusin" && cell !== this.at) this.focus(cell);
    this.on.look(cell);
  }

  pointerdown(event) {
    const cell = cellOf(event.target);
    if (cell === null || event.button !== 0) return;
    event.preventDefault(); // no text is selected by a stroke
    this.focus(cell);
    this.brush = this.on.brush(cell);
    if (this.brush === null) return;
    event.target.releasePointerCapture?.(event.pointerId); // or a finger would stay in one cell
    this.on.write(cell, this.brush, true);
  }

  pointermove(event) {
    if (this.brush === null) return;
    const cell = cellOf(document.elementFromPoint(event.clientX, event.clientY));
    if (cell === null || cell === this.at) return;
    this.focus(cell);
    this.on.write(cell, this.brush, true);
  }
}

const cellOf = (element) => {
  const number = element?.closest?.("#board .cell")?.dataset.cell;
  return number === undefined ? null : Number(number);
};
