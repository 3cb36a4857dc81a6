"""The page in a browser that reaches nothing but this machine."""

import os
import re
import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="there is no playwright")
expect = sync_api.expect

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SMALL = ".1.4", "2.1.", ".2..", "...."
WAIT = 30_000  # milliseconds, on a machine that has other things to do


@pytest.fixture(scope="module")
def context():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium")
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
    unreachable = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*quiet, unreachable])
        yield browser.new_context()
        browser.close()


@pytest.fixture
def tab(context, url):
    """Open the page; in the end, nothing was asked of others and nothing complained."""
    complaints, asked = [], []
    tab = context.new_page()
    tab.set_default_timeout(WAIT)
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(url)
    expect(tab.locator("#status")).to_contain_text("Press Solve", timeout=WAIT)
    yield tab
    tab.close()
    assert not complaints
    assert all(each.startswith(url) for each in asked)


def solved(tab) -> str:
    """Wait for an answer and return the grid."""
    expect(tab.locator("#status")).to_contain_text("Solved in", timeout=WAIT)
    return "".join(cell or "." for cell in tab.locator("#board .cell").all_inner_texts())


def test_a_typed_puzzle_is_solved_pass_by_pass(tab):
    tab.fill("#text", PUZZLE)
    tab.press("#text", "Enter")
    answer = solved(tab)
    assert re.fullmatch("[1-9]{81}", answer)
    assert all(clue in (".", digit) for clue, digit in zip(PUZZLE, answer, strict=True))
    expect(tab.locator("#valid")).to_have_text("yes")
    expect(tab.locator("#energy")).to_contain_text(" J")
    tab.fill("#pass", "1")
    wrong = tab.locator("#board [data-wrong=true]")
    expect(tab.locator("#valid")).to_contain_text(f"{wrong.count()} cell")
    tab.uncheck("#marks")
    expect(wrong).to_have_count(0)


def test_a_contradiction_is_refused_in_words(tab):
    tab.fill("#text", PUZZLE[:72] + "...5.5.79")
    tab.press("#text", "Enter")
    expect(tab.locator("#status")).to_have_text(re.compile("^Refused: two 5s in row 9"))
    expect(tab.locator("#board [data-clash=true]")).to_have_count(2)
    expect(tab.locator("#passes")).to_have_text("–")
    tab.fill("#text", PUZZLE[1:])
    tab.click("#use")
    expect(tab.locator("#status")).to_contain_text("80 symbols; a 9×9 grid needs exactly 81")


def test_the_keyboard_is_enough(tab):
    focused = "() => document.activeElement.id || document.activeElement.dataset.cell"
    reached = []
    while "0" not in reached and len(reached) < 9:
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate(focused))
    assert reached[-3:] == ["size", "example", "0"]
    ring = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(ring) == "solid"
    tab.select_option("#size", "4")
    tab.locator("#board .cell").first.focus()
    for row in SMALL:
        for symbol in row:
            if symbol != ".":
                tab.keyboard.press(symbol)
            tab.keyboard.press("ArrowRight")
        for key in ("Home", "ArrowDown"):
            tab.keyboard.press(key)
    for key in ("End", "1", "Backspace"):
        tab.keyboard.press(key)
    assert tab.input_value("#text") == "".join(SMALL)
    tab.keyboard.press("Enter")
    assert re.fullmatch("[1-4]{16}", solved(tab))
    tab.keyboard.press("Escape")
    expect(tab.locator("#passes")).to_have_text("–")
    for _ in range(2):
        tab.keyboard.press("Tab")
    assert tab.evaluate(focused) in ("solve", "step")


def test_a_maze_is_drawn_and_solved(tab):
    tab.check("[value=maze]", force=True)
    tab.select_option("#size", "10")
    box = tab.locator("#board").bounding_box()
    cell = box["width"] / 10
    tab.mouse.move(box["x"] + 2.5 * cell, box["y"] + 0.5 * cell)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 2.5 * cell, box["y"] + 7.5 * cell, steps=20)
    tab.mouse.up()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("#")
    rows = tab.input_value("#text").split("\n")
    assert [row[2] for row in rows] == ["#"] * 9 + ["."]
    tab.keyboard.press("Enter")
    expect(tab.locator("#status")).to_contain_text("a shortest path", timeout=WAIT)
    tab.fill("#text", "\n".join(["S#", "#G"]))
    tab.click("#use")
    expect(tab.locator("#status")).to_contain_text("Not read")


def test_another_start_takes_another_way(tab):
    tab.fill("#text", PUZZLE)
    tab.click("#use")
    tab.fill("#speed", "6")
    tab.click("#solve")
    answer, first = solved(tab), first_pass(tab)
    tab.click("#another")
    assert solved(tab) == answer
    assert first_pass(tab) != first


def first_pass(tab) -> list[str]:
    tab.fill("#pass", "1")
    return tab.locator("#board .cell").all_inner_texts()


def test_a_narrow_screen_needs_no_scrolling_sideways(tab):
    tab.set_viewport_size({"width": 320, "height": 640})
    for game, scheme in (("maze", "light"), ("sudoku", "dark")):
        tab.emulate_media(color_scheme=scheme)
        tab.check(f"[value={game}]", force=True)
        tab.click("#step")
        expect(tab.locator("#passes")).to_contain_text("1 of", timeout=WAIT)
        assert tab.evaluate("() => document.documentElement.scrollWidth") == 320
    tab.click("#back")
    tab.locator("#board .cell").first.click()
    tab.locator("#pad button").first.click()  # fingers have no keys
    expect(tab.locator("#board .cell").first).to_have_text("1")
