import pytest

from trm.training.metrics_file import MetricsFile


def log(folder, *rows, keep=None):
    """A process that logs; the next one finds its file."""
    logger = MetricsFile(folder)
    if keep is not None:
        logger.keep_until(keep)
    for step, metrics in rows:
        logger.log_metrics(metrics, step)
        logger.save()
    return (folder / "csv" / "metrics.csv").read_bytes().decode()


def test_rows_after_the_checkpoint_are_dropped_and_written_anew(tmp_path):
    whole = log(tmp_path / "a", (1, {"x": 1.5}), (2, {"y": 2}), (2, {"x": 3}), (3, {"x": 4}))
    assert whole == "step,x,y\r\n1,1.5,\r\n2,,2\r\n2,3,\r\n3,4,\r\n"
    log(tmp_path / "b", (1, {"x": 1.5}), (2, {"y": 2}), (2, {"x": 3}), (3, {"x": 9}), (4, {"x": 9}))
    assert log(tmp_path / "b", (3, {"x": 4}), keep=2) == whole


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_row_cut_off_by_a_kill_is_dropped(tmp_path, cut):
    whole = log(tmp_path, (10, {"x": 0.25, "y": 1}), (100, {"x": 0.5, "y": 2}))
    path = tmp_path / "csv" / "metrics.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    # Cut after its first digits, the last row would pass for one of step 1 or 10.
    assert log(tmp_path, (100, {"x": 0.5, "y": 2}), keep=50) == whole


def test_a_run_that_starts_over_in_its_folder_starts_its_metrics_over(tmp_path):
    log(tmp_path, (1, {"x": 1}))
    assert log(tmp_path, (1, {"x": 2}), keep=0) == "step,x\r\n1,2\r\n"
