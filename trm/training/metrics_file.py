"""A CSV logger whose file a resumed run continues."""

import csv
import io
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from trm.support.errors import InputError
from trm.support.files import written_whole


class MetricsFile(CSVLogger):
    """Lightning's CSV logger with one file for the whole of a run, ``<name>/metrics.csv``.

    Lightning's own begins a new file with every resume. Here a resumed run drops the rows after
    its checkpoint, which it is about to measure again, and goes on below the others, so that the
    file of a run that was killed equals that of one that was not.

    Args:
        save_dir: folder of the run
        name: subfolder
    """

    def __init__(self, save_dir: str, name: str = "csv") -> None:
        super().__init__(save_dir, name="", version=name)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer; on other processes than the first a dummy."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return self._experiment

    def log_hyperparams(self, params: Any = None) -> None:
        """Do nothing: the run's ``config.yaml`` says it all."""

    @rank_zero_only
    def keep_until(self, step: int) -> None:
        """Drop the rows after a step."""
        self.experiment.keep_until(step)


class _Writer(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.path = Path(self.metrics_file_path)
        self.metrics_keys = self._read()[0]

    def save(self) -> None:
        try:
            if self._record_new_keys():
                self._write(self._read()[1] + self.metrics)
            elif self.metrics:
                with open(self.path, "a", newline="") as file:
                    csv.DictWriter(file, self.metrics_keys).writerows(self.metrics)
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}") from None
        self.metrics = []

    def keep_until(self, step: int) -> None:
        if self.path.exists():
            rows = self._read()[1]
            self._write([row for row in rows if row["step"].isdigit() and int(row["step"]) <= step])

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        """Return columns and rows; a row that a kill cut off is left out."""
        if not self.path.exists():
            return [], []
        lines = self.path.read_bytes().decode(errors="replace").splitlines(keepends=True)
        reader = csv.reader(line for line in lines if line.endswith("\n"))
        columns = next(reader, [])
        rows = [dict(zip(columns, row, strict=True)) for row in reader if len(row) == len(columns)]
        return columns, rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        with written_whole(self.path) as file:
            file.write(text.getvalue().encode())

    def _check_log_dir_exists(self) -> None:
        """Leave the file of the run alone; Lightning's deletes it."""
