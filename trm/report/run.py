"""What a run says of itself on the terminal, before training and after it."""

from typing import Any

import torch

_DEAR_SAVING = 0.05  # share of the training time from which saving is said to be dear


def heading(
    manifest: dict[str, Any], model: str, parameters: int, device: str, processes: int, folder: str
) -> list[str]:
    """Return the lines that say what trains on what; ``device`` names the precision as well."""
    counts = ", ".join(f"{n:,} {name}" for name, n in manifest["counts"].items())
    classes = ", ".join(f"{n:,}" for n in manifest["symmetry_classes"].values())
    shared = sum(manifest["shared_symmetry_classes"].values())
    together = f", {processes} processes" if processes > 1 else ""
    return [
        f"task     {manifest['task']}",
        f"data     {manifest['source']}",
        f"         {counts} puzzles from {classes} symmetry classes, {shared} shared by splits",
        f"model    {model}, {parameters:,} parameters",
        f"device   {device}, {_many(torch.get_num_threads(), 'thread')}{together}",
        f"folder   {folder}",
    ]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def title(result: dict[str, Any], puzzles: int) -> str:
    """Return the title of a run's table."""
    return (
        f"{result['task']}: {puzzles} test puzzles, {result['parameters']:,} parameters, "
        f"{result['steps']} steps in {result['training_wall_time_s']:.0f} s"
    )


def footprint(result: dict[str, Any]) -> str:
    """Return what training took of devices, energy and CO₂."""
    took = result["footprint"]
    return (
        f"{3600 * took['device_hours']:,.0f} s of {took['of']}, "
        f"{1000 * took['energy_kwh']:.3g} Wh {took['energy_is']}, {took['co2_g']:.2g} g CO₂"
    )


def saving(result: dict[str, Any]) -> str:
    """Return what saving cost, and how to make it cheaper if it was dear."""
    spent = result["saving"]
    share = spent["wall_time_s"] / max(result["training_wall_time_s"], 1e-9)
    text = (
        f"{_many(spent['saves'], 'checkpoint')} of {spent['size_bytes'] / 1e6:.1f} MB in "
        f"{spent['wall_time_s']:.1f} s, {100 * share:.1f} % of training"
    )
    dear = share > _DEAR_SAVING and not spent["light"]
    return text + ("; checkpoint.light=true leaves out the puzzles in hand" if dear else "")
