// What all grids of cells have in common.

/** Name a cell for people, counting from 1. */
export function cellName(task, cell) {
  return `row ${Math.floor(cell / task.side) + 1} column ${(cell % task.side) + 1}`;
}

/**
 * Turn symbols into tokens. Throws an Error in words.
 *
 * @param what a puzzle of the task is called
 * @param takes what a cell may hold, in words
 * @param fits whether there are as many symbols as there should be
 */
export function tokensOf(task, symbols, { what, takes, fits = symbols.length === task.cells }) {
  if (!fits) {
    const size = `${task.side}×${task.side}`;
    throw new Error(
      `this ${what} has ${symbols.length} symbols; a ${size} grid needs exactly ${task.cells}`,
    );
  }
  return Uint8Array.from(symbols, (symbol, cell) => {
    const token = task.tokenOfKey(symbol);
    if (token !== null) return token;
    throw new Error(`${task.cellName(cell)} holds “${symbol}”; it takes ${takes}`);
  });
}
