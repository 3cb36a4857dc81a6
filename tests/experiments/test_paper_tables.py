"""The tables compose, hold the paper's numbers, and are rendered from the results as they are."""

import csv
import io
import json
import subprocess
import sys

import pytest
from PIL import Image

from experiments import laptop, render
from experiments.formats import tex
from experiments.numbers import (
    expected_band,
    lines,
    p_over_puzzles,
    p_over_seeds,
)
from experiments.table import (
    HERE,
    Cell,
    compose,
    identity,
    names,
    read_table,
    recipe_hash,
    recorded,
    scales,
)
from trm.support.errors import InputError

EVERY = [(name, scale) for name in names() for scale in scales(name)]
FOUND = recorded()


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_every_row_composes_and_builds(name, scale):
    table = read_table(name, scale)
    for column in lines(table, {}).values():
        for line in column:
            assert line.row.quoted or line.parameters > 0
            assert line.mean is None
    commands = [cell.command(0, HERE) for cell in table.cells()]
    assert len({" ".join(words) for words in commands}) == len(commands)


def test_the_paper_s_depths_are_ours():
    for name in "13":
        for line in lines(read_table(name, "paper"), {})["Sudoku-Extreme"]:
            printed = line.row.paper["depth"]
            # Of k = T = 1 the paper prints what its formula does not give.
            assert line.depth == printed - (1 if line.row.name.endswith("_1_1") else 0)


def test_the_commands_of_table_1_for_a_gpu():
    run = [sys.executable, "-m", "experiments.run", "table=1", "scale=paper", "dry=true"]
    printed = subprocess.run(
        run, capture_output=True, text=True, cwd=HERE.parent, check=True
    ).stdout
    wanted = [
        "experiment=sudoku_extreme_mlp trainer=gpu model=hrm",
        "experiment=sudoku_extreme_mlp trainer=gpu",
        *(
            f"experiment=sudoku_extreme_mlp 'ablation=[{name}]' trainer=gpu"
            for name in (
                *("act_continue", "separate_networks", "no_ema", "four_layers"),
                *("self_attention", "fewer_recursions", "one_step_gradient"),
            )
        ),
    ]
    found = printed.splitlines()
    assert [line.partition(" seed=0 ")[0] for line in found] == [
        f"python -m trm.train {words}" for words in wanted
    ]
    assert all(line.endswith("ckpt_path=auto") for line in found)


def test_rows_that_tables_share_are_one_recipe():
    def recipe(name: str, row: str, scale: str) -> str:
        table = read_table(name, scale)
        rows = {row.name: row for row in table.rows}
        return table.cell(rows[row], table.columns[0]).recipe

    for scale in ("laptop", "paper"):
        full = recipe("1", "trm", scale)
        assert full == recipe("2", "trm", scale) == recipe("4", "trm_mlp", scale)
        assert recipe("1", "hrm", scale) == recipe("4", "hrm", scale) != full
    assert recipe("3", "trm_3_3", "paper") == recipe("1", "trm", "paper")
    assert recipe("3", "hrm_2_2", "paper") == recipe("1", "hrm", "paper")


def test_what_decides_about_a_number_is_in_its_identity():
    recipe = recipe_hash(compose(("experiment=sudoku_4x4",)))
    for same in (
        "logger=none",
        "trainer.accelerator=gpu",
        "run_dir=x",
        "seed=3",
        "train.micro_batch=8",
        "train.log_every_n_steps=1",
    ):
        assert recipe_hash(compose(("experiment=sudoku_4x4", same))) == recipe
    for other in (
        "model.dim=32",
        "ema.decay=0.9",
        "data.seed=1",
        "trainer.max_steps=5",
        "ema=null",
        "test.limit=5",
        "trainer.limit_val_batches=1",
        "callbacks=early_stopping",
        "init_from=best.ckpt",
    ):
        assert recipe_hash(compose(("experiment=sudoku_4x4", other))) != recipe
    assert len({identity(recipe, data, seed) for data in "ab" for seed in (0, 1)}) == 4


def test_an_unknown_table_scale_or_row_is_named():
    with pytest.raises(InputError, match="table=9 does not exist"):
        read_table("9", "laptop")
    with pytest.raises(InputError, match="has no scale=laptop; it has paper"):
        read_table("5", "laptop")


def test_rendered_files_are_what_the_results_give():
    markdown = {"legend": render.LEGEND}
    for name, scale in EVERY:
        stem = f"table_{name}_{scale}"
        files = render.rendered(name, scale, FOUND)
        markdown[stem] = render.within(files["md"])
        for ending, text in files.items():
            path = render.RENDERED / f"{stem}.{ending}"
            assert path.read_text(encoding="utf-8") == text, f"run make tables: {path} is old"
        plot = render.RENDERED / f"{stem}.png"
        measured = any(row["seeds"] for row in csv.DictReader(io.StringIO(files["csv"])))
        assert plot.is_file() == measured
        if measured:
            with Image.open(plot) as picture:
                assert picture.text["Description"] == render.digest(files), "run make tables"
    for path in render.DOCUMENTS:
        document = path.read_text(encoding="utf-8")
        assert render.filled(document, markdown) == document, f"run make tables: {path} is old"


def test_the_picture_of_passes_shows_what_the_evaluations_give():
    with Image.open(render.RENDERED / "laptop.png") as picture:
        assert picture.text["Description"] == laptop.digest(), "run python -m experiments.laptop"


def test_results_say_how_they_were_made():
    for result in FOUND.values():
        assert result["certificate"]["commit"]
        assert result["certificate"]["torch"]
        assert "run_dir" not in result["config"]
        assert "/" not in json.dumps(result["manifest"])


def result(seed: int, solved: str, data: str = "d") -> dict:
    n = 4 * len(solved)
    hits = int(solved, 16).bit_count()
    test = {"n": n, "exact_accuracy": hits / n, "exact_interval": [0.0, 1.0]}
    manifest = {"sha256": data}
    return {"seed": seed, "test": [test], "test_solved": solved, "manifest": manifest}


def test_a_difference_over_puzzles_is_paired():
    # The same 8 of 16 puzzles, 7 of them, and 8 others.
    a, less, others = result(0, "ff00"), result(0, "fe00"), result(0, "00ff")
    assert p_over_puzzles((a,), (a,)) == 1.0
    assert p_over_puzzles((a,), (others,)) == 1.0
    assert 0.3 < p_over_puzzles((a,), (less,)) < 0.4
    assert p_over_puzzles((result(0, "ffff"),), (result(0, "0001"),)) < 1e-6
    assert p_over_puzzles((a,), (result(0, "ff00", data="other"),)) is None


def test_a_difference_over_seeds_knows_their_spread():
    assert p_over_seeds([90.0], [80.0, 81.0]) is None
    assert p_over_seeds([90.0, 91.0, 92.0], [70.0, 71.0, 72.0]) < 0.001
    assert p_over_seeds([90.0, 50.0, 92.0], [70.0, 71.0, 90.0]) > 0.5


def test_the_expected_band_is_student_s():
    low, high = expected_band([80.0, 82.0, 84.0])
    # t(0.975, 2) = 4.3027; 4.3027 * 2 * sqrt(4/3) = 9.94
    assert (low, high) == pytest.approx((72.06, 91.94), abs=0.01)


def test_markdown_and_latex_say_what_was_not_run():
    files = render.rendered("1", "paper", {})
    assert files["md"].count("not run") == files["tex"].count("not run") == 9
    assert "| with separate fH, fL | 9,698,306 | 42 | 82.4 | −5.0 | not run |" in files["md"]
    assert r"\toprule" in files["tex"]
    quoted = render.rendered("4", "paper", {})["md"]
    assert "| Deepseek R1 (quoted) | 671B | – | 0.0 | −87.4 | – |" in quoted


def test_results_of_different_data_do_not_share_a_row():
    table = read_table("3", "laptop")
    cell: Cell = next(table.cells())
    found = {(cell.recipe, seed): result(seed, "ff00", data=str(seed)) for seed in (0, 1)}
    with pytest.raises(InputError, match="different data"):
        lines(table, found)


def test_latex_escapes_what_it_would_take_for_something_else():
    assert tex("$ 5_000 & 3 % ~ CO₂ {^\\}") == (
        r"\$ 5\_000 \& 3 \% \textasciitilde{} CO$_2$ \{\textasciicircum{}\textbackslash{}\}"
    )
