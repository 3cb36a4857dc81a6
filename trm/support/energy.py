"""Energy: read from counters where a machine has them, else estimated from declared watts."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

_RAPL = Path("/sys/class/powercap")
_CPU_WATTS = 10.0  # per busy core, memory and losses included; a guess, as every default here
_GPU_WATTS = 350.0  # where NVML cannot be asked for the power limit
_J_PER_KWH = 3.6e6


class Meter:
    """Counts the energy of a device: a CUDA GPU's own by NVML, else all CPUs' by RAPL.

    RAPL counts whatever the machine does besides, and goes round: it must be read at least every
    half an hour. NVML needs the package ``nvidia-ml-py``, RAPL Linux and the right to read it.

    Attributes:
        source: ``NVML``, ``RAPL``, or None if the device has no counter that can be read
    """

    def __init__(self, device: torch.device) -> None:
        self._counters = _nvml(device) if device.type == "cuda" else _rapl()
        self.source = None if not self._counters else "NVML" if device.type == "cuda" else "RAPL"
        self._last = [counter.read() for counter in self._counters]
        self._joules = 0.0

    def joules(self) -> float:
        """Return the energy since the meter was made; 0 without a counter."""
        for place, counter in enumerate(self._counters):
            now = counter.read()
            spent = now - self._last[place]
            self._joules += spent if spent >= 0 else spent + counter.goes_round_at
            self._last[place] = now
        return self._joules


class _Counter(NamedTuple):
    read: Callable[[], float]  # joules
    goes_round_at: float


def _rapl() -> list[_Counter]:
    """Find the counters of CPU packages; their parts (cores, memory) are within them."""
    counters = []
    for zone in sorted(_RAPL.glob("intel-rapl:?")) + sorted(_RAPL.glob("intel-rapl:??")):
        with suppress(OSError, ValueError):  # root's alone on most machines
            most = int((zone / "max_energy_range_uj").read_text()) / 1e6
            counter = _Counter(lambda zone=zone: _microjoules(zone), most)  # type: ignore[misc]
            counter.read()
            counters.append(counter)
    return counters


def _microjoules(zone: Path) -> float:
    return int((zone / "energy_uj").read_text()) / 1e6


def _nvml(device: torch.device) -> list[_Counter]:
    with suppress(Exception):  # no package, no driver, a GPU without the counter
        nvml, handle = _nvml_device(device)
        counter = _Counter(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, 0.0)
        counter.read()
        return [counter]
    return []


def _nvml_device(device: torch.device) -> tuple[Any, Any]:
    import pynvml  # type: ignore[import-not-found,unused-ignore]

    pynvml.nvmlInit()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid)


def declared_watts(device: torch.device, watts: float | None = None) -> float:
    """Return the power to estimate with: of a GPU, or of one busy core of a CPU.

    Args:
        device: that computes
        watts: what a person declared; None for 10 W per busy core, or a GPU's power limit
    """
    if watts is not None:
        return watts
    if device.type != "cuda":
        return _CPU_WATTS
    with suppress(Exception):
        nvml, handle = _nvml_device(device)
        return float(nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1e3)
    return _GPU_WATTS


def footprint(
    device: torch.device,
    device_s: float,
    joules: float | None,
    source: str | None,
    watts: float,
    co2_g_per_kwh: float,
) -> dict[str, Any]:
    """Return what a piece of work took; plain types.

    Args:
        device: that computed
        device_s: seconds of it: of each GPU together, or of busy cores
        joules: counted; None if there is no counter
        source: of the counter
        watts: declared, per device or busy core, for the estimate
        co2_g_per_kwh: carbon intensity of the electricity, grams of CO₂ per kWh
    """
    estimated = device_s * watts / _J_PER_KWH
    measured = None if joules is None or source is None else joules / _J_PER_KWH
    energy = estimated if measured is None else measured
    return {
        "device_hours": device_s / 3600,
        "of": "GPU" if device.type == "cuda" else "busy CPU core",
        "energy_kwh": energy,
        "energy_is": f"measured by {source}" if measured is not None else "estimated",
        "estimated_kwh": estimated,
        "watts": watts,
        "co2_g": energy * co2_g_per_kwh,
        "co2_g_per_kwh": co2_g_per_kwh,
    }
