"""The README and the pages of the site: short, linked, and saying what files and code say."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import trm

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    *DOCS,
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/README.md")),
]
RESULTS = ROOT / "experiments" / "results"
SHOWN = {  # a row of the README's table, by how it begins, and where its numbers are from
    "Sudoku-Extreme, until an answer is valid": ("gpu_sudoku_first_valid", "sudoku"),
    "Sudoku-Extreme, search of at most 5,760 passes": ("gpu_sudoku_search", "sudoku"),
    "Sudoku-Extreme, this search by `sudoku-laptop`": ("laptop_sudoku_search", "sudoku-laptop"),
    "Maze-Hard, until an answer is valid": ("gpu_maze_hard_first_valid", "maze"),
    "Maze-Hard, the shortest of four views": ("gpu_maze_hard_shortest", "maze"),
    "Maze-Hard, this choice by `maze-laptop`": ("laptop_maze_hard_shortest", "maze-laptop"),
    "Sudoku 6×6": ("sudoku_6x6_trm_mlp_seed0", None),
    "Maze 10×10": ("maze_10x10_trm_att_seed0", None),
    "Sudoku 4×4": ("sudoku_4x4_trm_mlp_seed0", None),
}


@pytest.fixture(scope="module")
def generate():
    """Import docs/generate.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def prose(page: Path) -> str:
    """Return a page without its blocks of code, in which brackets mean other things."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        generated = "generated/" in file.read_text(encoding="utf-8") if anchor else False
        assert not anchor or generated or anchor in slugs(file), f"{page.name}: {target}#{anchor}"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_every_page_includes_what_is_there_or_generated(page, generate):
    for target in re.findall(
        r"^```\{include\} (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE
    ):
        generated = target.startswith("generated/")
        name = target.removeprefix("generated/")
        assert name in generate.INCLUDED if generated else (page.parent / target).is_file(), target


def test_the_site_lists_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = {
        line
        for block in re.findall(r"```\{toctree\}(.*?)```", index, re.DOTALL)
        for line in block.split()
    }
    assert {page.stem for page in DOCS} - {"index"} <= listed


@pytest.mark.parametrize(("row", "source"), SHOWN.items(), ids=lambda value: str(value)[:14])
def test_the_readme_s_results_are_those_of_the_files(row, source):
    name, card = source
    result = json.loads((RESULTS / f"{name}.json").read_text())
    last = (result.get("evaluation") or result["test"])[-1]
    low, high = (f"{100 * end:.1f}" for end in last["exact_interval"])
    exact = f"{100 * last['exact_accuracy']:.1f}"
    minutes = result.get("training_wall_time_s", 0) / 60
    if card:
        text = (ROOT / "trm" / "pretrained" / card / "README.md").read_text()
        # Of one GPU, or of a processor; also of the run that it began with.
        kind = "on one" if "NVIDIA" in text else "of processor time"
        minutes = sum(map(float, re.findall(rf"([\d.]+) min(?:utes)? {kind}", text)))
    (line,) = (line for line in README.splitlines() if line.startswith(f"| {row}"))
    cells = [cell.strip().replace("*", "") for cell in line.strip("|").split("|")]
    assert cells[2] == f"{exact} ({low} – {high})"
    assert cells[3:6] == [f"{last['n']:,}", f"{result['parameters']:,}", f"{minutes:.1f}"]
    trained_on = re.search(r"on (?:one|\d thread\(s\) of) ([\w ]+),", text) if card else None
    made = trained_on[1] if trained_on else result["certificate"]["processor"]
    for word in ("NVIDIA H200", "AMD EPYC", "Xeon"):
        assert (word in cells[6]) == (word in made)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").replace("*", "")
    assert f"{exact} ({low} – {high}) | {last['n']:,}" in page


def test_the_readme_quotes_the_paper_s_numbers():
    table = yaml.safe_load((ROOT / "experiments" / "tables" / "table_4.yaml").read_text())
    quoted = json.dumps(table)
    for line in README.splitlines():
        if line.startswith(("| Sudoku-Extreme", "| Maze-Hard")):
            assert line.split("|")[2].strip() in quoted


def test_the_readme_s_puzzle_is_answered_as_shown():
    (command,) = re.findall(r"^    \$ python -m (.*)$", README, re.MULTILINE)
    process = subprocess.run(
        [sys.executable, "-m", *command.split()], capture_output=True, text=True, timeout=100
    )
    drawn = [line.strip() for line in process.stdout.splitlines()]
    shown = README.split(command)[1].split("\n\n")[0].splitlines()[1:]
    assert drawn[:-1] == [line.strip() for line in shown[:-1]], process.stderr
    assert drawn[-1].startswith("valid; ")
    assert shown[-1].strip().startswith("valid; ")


@pytest.mark.parametrize("page", ["README.md", "docs/solve.md"])
def test_the_python_of_a_page_runs(page, capsys):
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL
    )
    exec(code, {})
    first, *steps = capsys.readouterr().out.splitlines()
    assert " True " in first
    assert len(steps) == 8
    assert steps[-1].split()[0] == first.split()[0], "thinking on keeps a valid answer"


def test_the_configuration_page_tells_every_key(generate):
    text = generate.configuration()
    for file in (ROOT / "conf").rglob("*.yaml"):
        group = file.parent.name
        if group == "conf":
            assert f"`trm.{file.stem}`" in text
            continue
        assert f"### `{group}={file.stem}`" in text
        if group not in generate.RECIPES:
            for key in yaml.safe_load(file.read_text(encoding="utf-8")) or {}:
                assert key == "defaults" or f"| `{group}.{key}" in text, f"{file}: {key}"
    assert "| `train.N_sup` | `16` | supervision steps per puzzle, at most |" in text


def test_the_api_page_names_everything_public_once(generate):
    told = re.findall(r"^\.\. auto\w+:: (\S+)$", generate.api(), re.MULTILINE)
    assert len(told) == len({*told})
    assert {f"trm.{name}" for name in trm.__all__ if name != "__version__"} <= {*told}


def test_every_overlay_is_of_the_paper_or_since(generate):
    names = {file.stem for file in (ROOT / "conf" / "ablation").glob("*.yaml")}
    listed = re.findall(r"^\| `(\w+)` \|", generate.since() + generate.ablations(), re.MULTILINE)
    assert sorted(listed) == sorted(names)


def test_the_tutorials_are_the_notebooks(generate):
    pages = generate.tutorials()
    assert len(pages) == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert all(text.startswith("# ") and "```python\n" in text for text in pages.values())
    assert all("```text\n" in text for text in pages.values())  # what they print
    assert sum(text.count("![what the cell draws]") for text in pages.values()) == 4
