"""The efficiency table says what was measured, what was not, and what it assumes."""

import pytest
import torch
from PIL import Image

from experiments import efficiency_table
from experiments.efficiency_subjects import SUBJECTS, measured
from experiments.efficiency_table import CO2_G_PER_KWH, USD_PER_KWH
from experiments.render import DOCUMENTS, RENDERED, digest, filled
from trm.support.errors import InputError

MEASURED = {
    "parameters": 1000,
    "active_parameters": 1000,
    "file_bytes": 4_000_000,
    "peak_bytes": 1,
    "flops": 2_000_000,
    "latency_s": 0.01,
    "latency_p95_s": 0.02,
    "puzzles_per_s": 100.0,
    "batch_size": 8,
    "device_s_per_puzzle": 3.6,
    "measured_j_per_puzzle": None,
    "watts": 10.0,
    "certificate": {"threads": 1, "processor": "P", "torch": "2", "commit": "c"},
}


def test_energy_is_estimated_from_busy_time_unless_it_was_counted():
    row = efficiency_table._of_one(MEASURED)
    assert row["measured_wh"] is None
    assert row["estimated_wh"] == pytest.approx(10)  # 3.6 s at 10 W, a thousand times: 36 kJ
    assert row["co2_g"] == pytest.approx(CO2_G_PER_KWH / 100)
    assert row["usd"] == pytest.approx(USD_PER_KWH / 100)
    counted = efficiency_table._of_one(MEASURED | {"measured_j_per_puzzle": 7.2})
    assert counted["measured_wh"] == pytest.approx(2)
    assert counted["estimated_wh"] == pytest.approx(10)
    assert counted["co2_g"] == pytest.approx(CO2_G_PER_KWH / 500)


def test_a_subject_without_weights_is_speed_only():
    row = {"label": "x", "block": "b"} | efficiency_table._of_one(MEASURED)
    assert efficiency_table._cells(row)[1] == "speed only"
    assert "not measured" in efficiency_table._cells(row)
    assert efficiency_table._cells({"label": "x", "block": "b"})[1] == "not run"


def test_a_network_is_measured_whatever_its_weights(monkeypatch):
    monkeypatch.setattr("experiments.efficiency_subjects._AT_LEAST_S", 0.0)
    found = measured("sudoku_laptop/Direct prediction", torch.device("cpu"))
    assert found["parameters"] == found["active_parameters"] == 428_290
    # Eight blocks of width 64: four projections, two layers of SwiGLU at 192, scores and values.
    block = 36 * 64 * (4 * 64 + 3 * 192) + 2 * 36 * 36 * 64
    assert found["flops"] == pytest.approx(2 * 8 * block, rel=0.01)
    assert found["file_bytes"] > 4 * found["parameters"]
    assert 0 < found["latency_s"] <= found["latency_p95_s"]


def test_rows_on_real_puzzles_need_their_folder():
    with pytest.raises(InputError, match="--data-path FOLDER"):
        measured("sudoku", torch.device("cpu"))


def test_accuracy_of_an_evaluation_is_that_of_its_last_step():
    row = efficiency_table._accuracy(SUBJECTS["sudoku-search"], {}, {})
    assert (row["n"], row["exact"]) == (1000, pytest.approx(99.7))
    assert row["low"] < 99.7 < row["high"]


def test_the_rendered_table_is_what_the_results_give():
    files = efficiency_table.rendered(efficiency_table.rows())
    for ending, text in files.items():
        path = RENDERED / f"efficiency_cpu.{ending}"
        assert path.read_text(encoding="utf-8") == text, f"run make tables: {path} is old"
    for path in DOCUMENTS:
        document = path.read_text(encoding="utf-8")
        assert filled(document, {"efficiency_cpu": files["md"]}) == document, "run make tables"
    with Image.open(RENDERED / "efficiency_cpu.png") as picture:
        assert picture.text["Description"] == digest(files), "run make tables"
    assert len(SUBJECTS) == 16
