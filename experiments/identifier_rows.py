"""What an update of the identifier table costs, as the table grows.

    python -m experiments.identifier_rows

A batch of 768 reads rows of width 512, back-propagates and updates them; the median of 20 rounds.
"""

import statistics
import time

import torch

from trm.models.identifiers import IdentifierTable
from trm.support.devices import peak_memory

DIM, BATCH, ROUNDS = 512, 768, 20


def main() -> None:
    """Print milliseconds and peak memory for tables from a thousand to a million rows."""
    print(f"{'rows':>10} {'table MB':>9} {'read + update ms':>17} {'peak MB above table':>20}")
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        start_mb = _peak_mb()
        table = IdentifierTable(rows, DIM)
        table.weights.fill_(0.1)  # really takes the memory
        table_mb = table.weights.nbytes / 2**20
        times = []
        for _ in range(ROUNDS):
            ids = torch.randint(rows, (BATCH,))
            start = time.perf_counter()
            table.rows(ids).square().sum().backward()
            table.update(lr=1e-2, weight_decay=0.1)
            times.append(time.perf_counter() - start)
        above = max(0.0, _peak_mb() - start_mb - table_mb)
        milliseconds = 1e3 * statistics.median(times)
        print(f"{rows:>10,} {table_mb:>9.0f} {milliseconds:>17.2f} {above:>20.0f}")


def _peak_mb() -> float:
    return peak_memory(torch.device("cpu")) / 2**20


if __name__ == "__main__":
    main()
