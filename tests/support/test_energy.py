"""Energy comes from counters where there are any, and says so where there are none."""

import json

import pytest
import torch

from trm.support import energy
from trm.support.energy import Meter, declared_watts, footprint
from trm.train import run_training

CPU = torch.device("cpu")


@pytest.fixture
def rapl(tmp_path, monkeypatch):
    """A machine with two CPU packages, one of them with a part, and a counter nobody may read."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl:2"):
        zone = tmp_path / name
        zone.mkdir()
        (zone / "max_energy_range_uj").write_text("10000000\n")
        (zone / "energy_uj").write_text("9000000\n")
    (tmp_path / "intel-rapl:2" / "energy_uj").unlink()
    monkeypatch.setattr(energy, "_RAPL", tmp_path)
    return lambda package, joules: (tmp_path / f"intel-rapl:{package}" / "energy_uj").write_text(
        str(int(joules * 1e6))
    )


def test_packages_are_added_and_counters_go_round(rapl):
    meter = Meter(CPU)
    assert meter.source == "RAPL"
    assert meter.joules() == 0
    rapl(0, 9.5)
    rapl(1, 1.0)  # 1 J to the end, 1 J beyond
    assert meter.joules() == pytest.approx(2.5)
    rapl(0, 0.5)
    assert meter.joules() == pytest.approx(3.5)


def test_a_machine_without_counters_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_RAPL", tmp_path / "none")
    meter = Meter(CPU)
    assert meter.source is None
    assert meter.joules() == 0


def test_measured_energy_comes_first_and_the_estimate_stays_beside_it():
    measured = footprint(CPU, 3600, 7.2e6, "RAPL", watts=10, co2_g_per_kwh=500)
    assert measured["energy_kwh"] == pytest.approx(2)
    assert measured["energy_is"] == "measured by RAPL"
    assert measured["estimated_kwh"] == pytest.approx(0.01)
    assert measured["co2_g"] == pytest.approx(1000)
    guessed = footprint(CPU, 3600, 0.0, None, watts=10, co2_g_per_kwh=500)
    assert guessed["energy_is"] == "estimated"
    assert guessed["energy_kwh"] == guessed["estimated_kwh"] == pytest.approx(0.01)
    assert declared_watts(CPU, 25.0) == 25.0


def test_a_run_tells_its_footprint_with_what_it_took_before_a_resume(tiny_config, tmp_path):
    first = run_training(tiny_config("footprint.watts=100"))["footprint"]
    assert first["of"] == "busy CPU core"
    assert first["watts"] == 100
    assert 0 < first["device_hours"] < 0.1
    run = f"ckpt_path={tmp_path / 'run'}"
    again = run_training(tiny_config("footprint.watts=100", "trainer.max_steps=9", run))
    assert again["footprint"]["device_hours"] > first["device_hours"]
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written["footprint"] == again["footprint"]
