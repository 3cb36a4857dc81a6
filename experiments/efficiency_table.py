"""The efficiency table: accuracy, memory, speed, energy and cost, from result files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.efficiency_subjects import ENOUGH_S, SUBJECTS, Subject
from experiments.formats import csv_text, latex, markdown, tex, told
from experiments.numbers import Line, lines
from experiments.render import RENDERED, digest, fill_documents, write_text
from experiments.table import HERE, read_table, recorded
from trm.report.plots import Bubble, bubbles
from trm.results.files import read_result
from trm.results.statistics import wilson

CO2_G_PER_KWH = 473.0  # the world's electricity in 2024 (Ember, Global Electricity Review 2025)
USD_PER_KWH = 0.25  # of electricity; what a household in Europe or California pays, roughly
_HEADINGS = (
    *("", "exact %", "parameters", "active", "GFLOP a puzzle", "ms for one (p95)", "batch"),
    *("puzzles/s", "Wh measured", "Wh estimated", "g CO₂", "$", "memory, MB", "file, MB"),
)
_FEW = 20  # latencies: too few for a 95th percentile, which would be their largest
_NOT = "not measured"
_NOT_RUN = "not run"
_NOTHING = {"–", _NOT, _NOT_RUN}
_SPEED_ONLY = "speed only"

Row = dict[str, Any]


def rows(device: str = "cpu") -> list[Row]:
    """Put together what was measured of each subject with its accuracy.

    Energy, CO₂ and cost are for 1,000 puzzles in batches. Accuracy is a mean over seeds in %.

    Raises:
        InputError: a result file that is damaged
    """
    file = HERE / "results" / f"efficiency_{device}.json"
    found = read_result(file)["measured"] if file.is_file() else {}
    table = read_table("4", "laptop")
    trained = {line.row.name: line for line in lines(table, recorded())[table.columns[0].name]}
    made = []
    for name, subject in SUBJECTS.items():
        row = {"name": name, "label": subject.label, "block": subject.block}
        row |= _accuracy(subject, found.get(name, {}), trained)
        if name in found:
            row |= _of_one(found[name])
        made.append(row)
    return made + _exports() + _endpoints()


def _of_one(measured: Mapping[str, Any]) -> Row:
    """Take over a measurement, with energy and what follows from it."""
    counted = measured["measured_j_per_puzzle"]
    estimated_wh = measured["device_s_per_puzzle"] * measured["watts"] * 1000 / 3600
    wh = estimated_wh if counted is None else counted * 1000 / 3600
    return {
        **{key: measured[key] for key in ("parameters", "active_parameters", "flops")},
        **{key: measured[key] for key in ("latency_s", "batch_size", "puzzles_per_s")},
        **({"latency_p95_s": measured["latency_p95_s"]} if _has_p95(measured) else {}),
        "file_mb": measured["file_bytes"] / 1e6,
        "memory_mb": measured["peak_bytes"] / 1e6,
        "measured_wh": None if counted is None else wh,
        "estimated_wh": estimated_wh,
        "co2_g": wh / 1000 * CO2_G_PER_KWH,
        "usd": wh / 1000 * USD_PER_KWH,
        "hardware": _hardware(measured["certificate"]),
        "commit": measured["certificate"]["commit"],
    }


def _has_p95(measured: Mapping[str, Any]) -> bool:
    return bool(_FEW * measured["latency_s"] < ENOUGH_S)


def _hardware(made: Mapping[str, Any]) -> str:
    return f"{made['threads']} threads of {made['processor']}, torch {made['torch']}"


def _accuracy(subject: Subject, measured: Mapping[str, Any], trained: Mapping[str, Line]) -> Row:
    if subject.evaluated is not None:
        return _evaluated(subject.evaluated)
    if "hits" in measured:
        n = measured["n"]
        return _exact(measured["hits"] / n, wilson(measured["hits"], n), n)
    if subject.row is None or not (line := trained[subject.row]).results:
        return {}
    return {
        "exact": line.mean,
        "low": min(low for low, _ in line.intervals),
        "high": max(high for _, high in line.intervals),
        "n": line.n,
        "seeds": len(line.seeds),
    }


def _evaluated(stem: str) -> Row:
    """Read the accuracy of an evaluation, or of a language model's replies, if there is one."""
    file = HERE / "results" / f"{stem}.json"
    if not file.is_file():
        return {}
    found = read_result(file)
    last = found["evaluation"][-1] if "evaluation" in found else found
    return _exact(last["exact_accuracy"], last["exact_interval"], last["n"])


def _exact(share: float, interval: Sequence[float], n: int) -> Row:
    """Write an accuracy and the ends of its interval in %."""
    low, high = interval
    return {"exact": 100 * share, "low": 100 * low, "high": 100 * high, "n": n}


def _exports() -> list[Row]:
    """Read what exports said of themselves; their single steps are counted as often as it takes."""
    made = []
    for file in sorted((HERE / "results").glob("export_*.json")):
        about = read_result(file)
        steps, n = about["N_sup"], about["agreement"]["puzzles"]
        exact = about["agreement"]["exported_accuracy"]
        taken = about["latency"]["ms_per_puzzle_and_step"]["exported"]
        made.append(
            {
                "name": file.stem,
                "label": f"{about['checkpoint']}, {about['kind']}",
                "block": f"Exports of the model that comes with the package, all {steps} steps",
                "file_mb": about["sizes"]["step"] / 1e6,
                "latency_s": steps * taken["1"] / 1000,
                "puzzles_per_s": 1000 / (steps * taken["64"]),
                **_exact(exact, wilson(exact * n, n), n),
                "hardware": _hardware(about["certificate"]),
                "commit": about["certificate"]["commit"],
            }
        )
    return made


def _endpoints() -> list[Row]:
    """Read the stored runs of language models, if there are any."""
    made = []
    shown = {subject.evaluated for subject in SUBJECTS.values()}
    for file in sorted((HERE / "results").glob("llm_*.json")):
        if file.stem in shown:
            continue
        run = read_result(file)
        settings = run["settings"]
        alone = settings.get("batch_size", 1) == 1  # else a reply took as long as its batch
        made.append(
            {
                "name": file.stem,
                "label": f"{run['model']}, {run['task']}, {settings['shots']} solved ones shown",
                "block": "Language models whose replies were stored",
                "latency_s": run["seconds_median"] if alone else None,
                **({"latency_p95_s": run["seconds_p95"]} if alone else {}),
                "usd": 1000 * run["usd"] / run["n"] if run.get("usd") else None,
                **_exact(run["exact_accuracy"], run["exact_interval"], run["n"]),
            }
        )
    return made


def _cells(row: Row) -> list[str]:
    is_measured = "latency_s" in row
    exact = _SPEED_ONLY if is_measured else _NOT_RUN
    if "exact" in row:
        exact = f"{row['exact']:.1f} ({row['low']:.1f} – {row['high']:.1f})"
    if not is_measured:
        return [row["label"], exact, *[_NOT_RUN] * (len(_HEADINGS) - 2)]
    spent = _figures(None if row["latency_s"] is None else 1e3 * row["latency_s"])
    if "latency_p95_s" in row:
        spent += f" ({_figures(1e3 * row['latency_p95_s'])})"
    return [
        row["label"],
        exact,
        *(f"{row[key]:,}" if key in row else "–" for key in ("parameters", "active_parameters")),
        _figures(row["flops"] / 1e9 if "flops" in row else None),
        spent,
        str(row.get("batch_size", "–")),
        _figures(row.get("puzzles_per_s")),
        _figures(row.get("measured_wh"), _NOT),
        *(_figures(row.get(key)) for key in ("estimated_wh", "co2_g", "usd")),
        *(_figures(row.get(key)) for key in ("memory_mb", "file_mb")),
    ]


def _figures(number: float | None, without: str = "–") -> str:
    """Write a number with two or three figures that count."""
    if number is None:
        return without
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.2g}" if number < 10 else f"{number:.1f}"


def _with_blocks(made: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Write headings and rows, without columns in which no row has a number."""
    cells: list[list[str]] = []
    block = ""
    for row in made:
        if row["block"] != block:
            block = row["block"]
            cells.append([block])
        cells.append(_cells(row))
    return told(_HEADINGS, cells, _NOTHING)


def _note(made: list[Row]) -> str:
    hardware = sorted({row["hardware"] for row in made if "hardware" in row})
    made_on = "; ".join(hardware) or "Nothing was measured yet"
    return (
        f"{made_on}. Puzzles/s, and for 1,000 puzzles Wh, CO₂ and $, are of batches of this size; "
        "energy is counted where the machine has counters and else estimated: 10 W per busy core, "
        f"{CO2_G_PER_KWH:.0f} g CO₂ and ${USD_PER_KWH:.2f} per kWh. p95 where 20 latencies or more "
        "were taken. Memory is the whole process's, some 450 MB of it Python's and torch's. Exact: "
        "with its 95 % interval, of several seeds the mean, from the lowest to the highest end. "
        "Speed only: an architecture of random weights, whose accuracy here is not known. Language "
        "models run in float32; their operations are 2 × active parameters × tokens. Granite's "
        "file is the published one in bfloat16, SmolLM2's has four bits a weight."
    )


_CSV: tuple[str, ...] = (
    *("name", "label", "block", "parameters", "active_parameters", "file_mb", "memory_mb", "flops"),
    *("latency_s", "latency_p95_s", "batch_size", "puzzles_per_s"),
    *("measured_wh", "estimated_wh", "co2_g", "usd"),
    *("exact", "low", "high", "n", "seeds", "hardware", "commit"),
)


def rendered(made: list[Row]) -> dict[str, str]:
    """Return the files as text, by ending."""
    (headings, cells), note = _with_blocks(made), _note(made)
    return {
        "md": f"{markdown(headings, cells)}\n{note}\n",
        "tex": f"% Needs booktabs.\n{latex(headings, cells)}% {tex(note)}\n",
        "csv": csv_text(_CSV, ([row.get(key) for key in _CSV] for row in made)),
    }


def write() -> list[Path]:
    """Write table and plot of each kind of device measured, and the CPU's into the documents."""
    written = []
    for file in sorted((HERE / "results").glob("efficiency_*.json")):
        stem, made = file.stem, rows(file.stem.removeprefix("efficiency_"))
        files = rendered(made)
        for ending, text in files.items():
            written.append(RENDERED / f"{stem}.{ending}")
            write_text(written[-1], text)
        fill_documents({stem: files["md"]})
        written.append(RENDERED / f"{stem}.png")
        _plot(made, written[-1], digest(files))
    return written


def _plot(made: list[Row], path: Path, says: str) -> None:
    drawn = [
        Bubble(row["label"], row["estimated_wh"], row["exact"], row["parameters"])
        for row in made
        if "estimated_wh" in row and "exact" in row and "6×6" in row["block"]
    ]
    if drawn:
        labels = "Wh for 1,000 puzzles (estimated)", "exact accuracy on 6×6 Sudoku, %"
        bubbles(drawn, *labels, path, says)
