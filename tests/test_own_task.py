"""The example of docs/own_task.md, taken from the page and run as it says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "own_task.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


@pytest.mark.usefixtures("preloaded")
def test_the_page_s_example_runs_and_learns(tmp_path):
    code, config = block("python"), block("yaml")
    assert len([line for line in code.splitlines() if line.strip()]) <= 45
    (tmp_path / "flood.py").write_text(code)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "flood.yaml").write_text(config)
    command = block("sh").split()
    assert command[0] == "python"
    half = "trainer.max_steps=200"  # of the page's
    arguments = [sys.executable, *command[1:], half, "run_dir=run"]
    process = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["task"] == "flood_4x4"
    assert result["test"][-1]["valid_accuracy"] > 0.2, "untrained: 0"
    assert result["test"][-1]["valid_accuracy"] == result["test"][-1]["exact_accuracy"]
    assert sum(result["manifest"]["shared_symmetry_classes"].values()) == 0
    evaluate = [sys.executable, "-m", "trm.evaluate", "checkpoint=run/checkpoints/best.ckpt"]
    process = subprocess.run(
        [*evaluate, "limit=100"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert "flood_4x4: 100 test puzzles" in process.stdout, process.stderr
