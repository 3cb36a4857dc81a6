// The page: what is asked, what was thought so far, and the controls around it.

import { Board } from "./board.js";
import { Maze } from "./maze.js";
import { Model } from "./model.js";
import { trajectory } from "./solver.js";
import { Sudoku } from "./sudoku.js";

const WATTS = 10; // of one busy core with its memory: trm/support/energy.py assumes as much
const SPEEDS = [1, 2, 4, 8, 15, 30, Infinity]; // passes a second
const FRAME = 16; // milliseconds; what takes less is drawn, and not waited for
const HINTS = {
  sudoku: "Type or paste 16, 36 or 81 symbols, in one line or several: . 0 or _ is a blank.",
  maze: "Type or paste 10, 20 or 30 rows: # is a wall, . or a space is open, S and G are the ends.",
};
const POINT = "Point at a cell to see what it considers.";
const TOOLS = { wall: "#", open: ".", start: "S", goal: "G" };

const $ = (id) => document.getElementById(id);
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (share) => `${number(100 * share)} %`;
const count = (n, thing) => `${number(n)} ${thing}${n === 1 ? "" : "s"}`;
const passesSaid = (n) => `${number(n)} ${n === 1 ? "pass" : "passes"}`;
const sentence = (words) => words[0].toUpperCase() + words.slice(1);

let published; // models.json
let examples; // examples.json
let task;
let question; // tokens
let clash = []; // cells of the question that contradict each other
let passes = []; // what each gave
let shown = null; // the pass that is drawn, counted from 1; null for the puzzle
let time = 0; // milliseconds that all of them took
let thinking = null; // the trajectory; it goes on where it stopped
let playing = false;
const models = new Map(); // by their entries in models.json, as promises

const board = new Board($("board"), {
  write,
  brush: (cell) => {
    if (task.game === "sudoku") return null;
    const token = task.tokenOfKey(TOOLS[document.querySelector("[name=tool]:checked").value]);
    return token === question[cell] ? task.erased : token; // a second stroke rubs out
  },
  enter: () => (playing ? pause() : play()),
  escape: back,
  paste: use,
  look,
});

// --- the puzzle ---------------------------------------------------------------------------------

/** Show a puzzle, of this size or another; what was thought is forgotten. */
function ask(newTask, newQuestion, said) {
  const isOther = newTask.name !== task?.name;
  task = newTask;
  question = newQuestion;
  if (isOther) {
    board.open(task);
    offer();
  }
  $("example").value = "";
  forget();
  look(null);
  $("text").value = task.decode(question);
  say(said ?? `${task.describe(question)}. Press Solve.`);
  void model();
}

function write(cell, token, isStroke) {
  const changed = task.written(question, cell, token ?? task.erased, isStroke);
  if (changed === question) return;
  question = changed;
  $("example").value = "";
  forget();
  const clashes = task.game === "sudoku" ? task.explain(question) : null;
  clash = clashes?.cells ?? [];
  $("text").value = task.decode(question);
  draw();
  look(cell);
  if (clashes) say(`${sentence(clashes.words)}.`, "bad");
  else say(`${task.describe(question)}.`);
}

/** Read a puzzle from text. */
function use(text) {
  const kind = task.game === "maze" ? Maze : Sudoku;
  const sizes = published[task.game].sizes;
  const fits = Object.values(sizes).find((size) => size.side ** 2 === kind.cellsIn(text));
  const there = fits ? taskOf(task.game, fits.side) : task;
  try {
    ask(there, there.encode(text));
    return true;
  } catch (error) {
    say(`Not read: ${error.message}.`, "bad");
    return false;
  }
}

const taskOf = (game, side) =>
  game === "maze" ? new Maze(side) : new Sudoku(published.sudoku.sizes[side].boxes);

/** Drop what was thought. */
function forget() {
  playing = false;
  thinking = null;
  [passes, shown, time, clash] = [[], null, 0, []];
  draw();
}

function back() {
  const had = passes.length;
  forget();
  if (had) say(`Back to the puzzle: ${task.describe(question)}.`);
}

// --- thinking -----------------------------------------------------------------------------------

/** Open the network for this size once. */
function model() {
  const about = published[task.game].sizes[task.side];
  if (!models.has(about)) {
    const opened = Model.load(about, async (file) => (await get(file)).arrayBuffer());
    opened.catch(() => models.delete(about)); // to be tried again
    models.set(about, opened);
  }
  return models.get(about);
}

/** Begin to think, unless the puzzle is refused; tell whether there is something to go on with. */
async function begin() {
  if (thinking && !passes.at(-1)?.ended) return true;
  forget();
  const problem = task.explain(question);
  if (problem) {
    clash = problem.cells;
    draw();
    const mend = task.game === "maze" ? "" : " No answer can keep both; change one of them.";
    say(`Refused: ${problem.words}.${mend}`, "bad");
    return false;
  }
  if (task.isValid(question, question)) {
    say("Already solved: nothing is left to think about.", "good");
    return false;
  }
  const asked = question;
  try {
    say("Loading the network …");
    const opened = await model();
    if (question !== asked) return false; // something was typed meanwhile
    const seed = Math.max(0, Math.floor(Number($("seed").value)) || 0);
    thinking = trajectory(opened, task, question, { search: $("search").checked, seed });
  } catch (error) {
    say(`The network could not be loaded (${error.message}).`, "bad");
    return false;
  }
  return true;
}

async function takePass() {
  const mine = thinking;
  const { value } = await mine.next();
  if (mine !== thinking || !value) return false;
  passes.push(value);
  shown = passes.length;
  time += value.time;
  draw();
  if (value.ended) conclude(value);
  return !value.ended;
}

async function play() {
  if (playing || !(await begin()) || playing) return;
  playing = true;
  say("Thinking …");
  const mine = thinking;
  let frame = performance.now();
  let due = frame;
  draw();
  while (playing && mine === thinking && (await takePass())) {
    due = Math.max(due + 1000 / SPEEDS[$("speed").value], performance.now());
    while (playing && (performance.now() < due || performance.now() > frame + FRAME)) {
      await new Promise(requestAnimationFrame);
      frame = performance.now();
    }
  }
  if (mine !== thinking) return;
  playing = false;
  draw();
}

function pause() {
  if (!playing) return;
  playing = false;
  say(`Paused after ${passesSaid(passes.length)}.`);
  draw();
}

async function step() {
  if (playing) return pause();
  if (await begin()) {
    const goesOn = await takePass();
    if (goesOn) say(`Pass ${passes.length}.`);
    draw();
  }
}

function conclude({ valid, y, guesses, restarts, xInput }) {
  playing = false;
  const took = passesSaid(passes.length);
  if (valid) {
    const written = writtenInto(xInput);
    const guessed = guesses ? ` and guessed ${count(guesses, "time")}` : "";
    const searched = written ? ` Its search wrote in ${count(written, "cell")}${guessed}.` : "";
    const rule = task.describeAnswer(question, y);
    say(`Solved in ${took} and ${number(time)} ms: ${rule}.${searched}`, "good");
  } else {
    const broken = task.game === "maze" ? null : task.explain(y);
    const why = broken?.words ?? "the marks are not one unbroken path from S to G";
    const other = task.blank !== null && !$("search").checked ? "the search, or " : "";
    const tried = restarts ? ` and ${count(restarts, "fresh start")}` : "";
    say(`Not solved after ${took}${tried}: ${why}. Try ${other}another start.`, "bad");
  }
}

// --- what is seen -------------------------------------------------------------------------------

function draw() {
  const pass = shown === null ? null : passes[shown - 1];
  const last = passes.at(-1);
  const marks = pass && last.valid && $("marks").checked;
  const wrong = marks ? [...pass.y.keys()].filter((cell) => pass.y[cell] !== last.y[cell]) : [];
  board.draw(question, pass, { wrong, clash });
  drawFigures(pass, wrong.length);
  drawTimeline(last);
  const goesOn = thinking && passes.length && !last.ended;
  $("solve").textContent = playing ? "Pause" : goesOn ? "Go on" : passes.length ? "Again" : "Solve";
  $("step").disabled = playing;
  $("back").disabled = !passes.length;
}

function drawFigures(pass, wrong) {
  const figures = { passes: "–", time: "–", energy: "–", valid: "–", sure: "–", says: "–" };
  figures.searched = task.blank === null ? "not for mazes" : "–";
  if (pass) {
    const taken = passes.slice(0, shown).reduce((sum, { time }) => sum + time, 0);
    figures.passes = `${number(shown)} of at most ${number(pass.maxSteps)}`;
    figures.time = `${number(taken)} ms, ${number(taken / shown, 1)} each`;
    figures.energy = `${number((taken / 1000) * WATTS, 2)} J`;
    figures.valid = pass.valid ? "yes" : wrong ? `no, ${count(wrong, "cell")} wrong` : "not yet";
    figures.sure = percent(confidence(pass));
    figures.says = percent(1 / (1 + Math.exp(-pass.qHat)));
    if (task.blank !== null) figures.searched = searched(pass);
  }
  for (const [id, text] of Object.entries(figures)) $(id).textContent = text;
}

function searched({ xInput, guesses, restarts }) {
  const written = writtenInto(xInput);
  if (!written && !guesses && !restarts) return "not needed so far";
  const starts = restarts ? `, ${count(restarts, "fresh start")}` : "";
  return `${count(written, "cell")} written, ${guesses === 1 ? "1 guess" : `${guesses} guesses`}${starts}`;
}

/** Count the cells that a search has filled in. */
const writtenInto = (xInput) => xInput.filter((token, cell) => token !== question[cell]).length;

/** Return how sure it is of its answer, averaged over the cells. */
function confidence({ y, shares }) {
  const chosen = (sum, token, cell) => sum + shares[cell * task.vocabSize + token];
  return y.reduce(chosen, 0) / y.length;
}

function drawTimeline(last) {
  $("timeline").hidden = !last;
  if (!last) return;
  const range = $("pass");
  range.max = passes.length;
  range.value = shown;
  range.setAttribute("aria-valuetext", `pass ${shown} of ${passes.length}`);
  $("pass-number").textContent = `${number(shown)} of ${number(passes.length)}`;
  const [svg, events, curve] = [$("curve"), ...$("curve").children];
  svg.setAttribute("viewBox", `0 0 ${Math.max(passes.length - 1, 1)} 1`);
  const doubts = passes.map((pass) => 1 - (pass.sure ??= confidence(pass)));
  const most = Math.max(...doubts, 0.01);
  const points = doubts.map((doubt, i) => `${i},${doubt / most}`);
  curve.setAttribute("points", points.length > 1 ? points.join(" ") : "");
  const heights = { guess: 0.7, "take back": 0.7, anew: 0 };
  const lines = passes.map(({ decision }, i) =>
    decision in heights ? `M${i} 1V${heights[decision]}` : "",
  );
  events.setAttribute("d", lines.join(""));
}

/** Say in a line below the grid what is thought of a cell. */
function look(cell) {
  const pass = shown === null ? null : passes[shown - 1];
  if (cell === null || !pass || !question || task.isGiven(question[cell])) {
    $("readout").textContent = cell === null ? POINT : label(cell);
    return;
  }
  const shares = pass.shares.subarray(cell * task.vocabSize, (cell + 1) * task.vocabSize);
  const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
  const likely = order.filter((token, i) => i === 0 || (i < 3 && shares[token] >= 0.005));
  const said = likely.map((token) => `${task.say(token)} ${percent(shares[token])}`);
  $("readout").textContent = `${sentence(task.cellName(cell))}: ${said.join(", ")}`;
}

const label = (cell) => sentence(board.cells[cell].getAttribute("aria-label"));

function say(words, mood = "") {
  $("status").textContent = words;
  $("status").dataset.mood = mood;
}

// --- controls -----------------------------------------------------------------------------------

/** Offer what there is for this game and size: sizes, examples, digits or tools. */
function offer() {
  const { sizes, parameters } = published[task.game];
  const option = (value, text) => new Option(text, value);
  const names = Object.values(sizes).map(({ side }) => option(side, `${side}×${side}`));
  $("size").replaceChildren(...names);
  $("size").value = task.side;
  const groups = new Map();
  for (const [place, { game, group, label }] of examples.entries()) {
    if (game !== task.game) continue;
    if (!groups.has(group)) {
      groups.set(group, Object.assign(document.createElement("optgroup"), { label: group }));
    }
    groups.get(group).append(option(place, label));
  }
  $("example").replaceChildren(option("", "Choose an example"), ...groups.values());
  $("about").textContent = `A network of ${number(parameters)} numbers`;
  $("text-hint").textContent = HINTS[task.game];
  $("search").disabled = task.blank === null;
  $("legend-sudoku").hidden = task.game !== "sudoku";
  $("legend-maze").hidden = task.game !== "maze";
  $("pad").replaceChildren(...(task.game === "maze" ? tools() : digits()));
  document.querySelector(`[name=game][value=${task.game}]`).checked = true;
}

/** Make buttons that write digits: fingers have no keys. */
function digits() {
  $("pad").className = "pad digits";
  return [...task.digits, "⌫"].map((digit) => {
    const button = document.createElement("button");
    button.textContent = digit;
    if (digit === "⌫") button.setAttribute("aria-label", "erase");
    button.onclick = () => {
      write(board.at, digit === "⌫" ? null : task.tokenOfKey(digit));
      board.focus();
    };
    return button;
  });
}

function tools() {
  $("pad").className = "pad tools segments";
  return Object.entries(TOOLS).map(([name], place) => {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "tool" });
    [radio.value, radio.checked] = [name, place === 0];
    const said = document.createElement("span");
    said.textContent = sentence(name);
    label.append(radio, said);
    return label;
  });
}

function choose(example) {
  const { game, side, puzzle } = examples[example];
  const there = taskOf(game, side);
  ask(there, there.encode(puzzle));
  $("example").value = example;
}

/** Return the first example of the largest size that is worth watching. */
function firstOf(game) {
  const largest = Math.max(...Object.keys(published[game].sizes));
  return examples.findIndex(
    (example) => example.game === game && example.side === largest && example.passes > 16,
  );
}

function listen() {
  $("solve").onclick = () => (playing ? pause() : play());
  $("step").onclick = step;
  $("back").onclick = back;
  $("pass").oninput = () => {
    pause();
    shown = Number($("pass").value);
    draw();
  };
  $("marks").onchange = draw;
  $("search").onchange = () => passes.at(-1)?.ended || !thinking || back();
  $("seed").onchange = () => passes.length && back();
  $("another").onclick = () => {
    $("seed").value = (Number($("seed").value) || 0) + 1;
    forget();
    void play();
  };
  $("size").onchange = () => {
    const there = taskOf(task.game, Number($("size").value));
    ask(there, there.empty(), `${there.name}, empty. Type, draw or choose an example.`);
  };
  $("example").onchange = () => $("example").value && choose(Number($("example").value));
  for (const radio of document.querySelectorAll("[name=game]")) {
    radio.onchange = () => choose(firstOf(radio.value));
  }
  $("use").onclick = () => use($("text").value);
  $("clear").onclick = () => ask(task, task.empty(), `${task.name}, empty.`);
  $("text").onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || task.game === "maze") return;
    event.preventDefault();
    if (use($("text").value)) void play();
  };
  const said = () => {
    const speed = SPEEDS[$("speed").value];
    $("speed-said").textContent = speed === Infinity ? "as fast as it can" : `${speed} a second`;
  };
  $("speed").oninput = said;
  said();
}

async function get(file) {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return response;
}

const read = async (file) => (await get(file)).json();
[published, examples] = await Promise.all(["models.json", "examples.json"].map(read));
listen();
choose(firstOf("sudoku"));
