"""What the tests fork is as what a person starts."""

import signal
import subprocess
import sys

import pytest

from tests import processes

STARTS = pytest.mark.parametrize("start", [subprocess.Popen, processes.start])
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


@STARTS
def test_it_has_a_folder_words_surroundings_streams_and_a_status_of_its_own(tmp_path, start):
    code = "import os, sys; print(os.getcwd(), *sys.argv[1:], os.environ['A']); sys.exit('bad')"
    process = start(python(code, "b", "c"), cwd=tmp_path, env={"A": "a"}, **PIPES)
    assert process.communicate(timeout=60) == (f"{tmp_path} b c a\n", "bad\n")
    assert process.returncode == 1


@STARTS
def test_a_fault_is_told_with_its_traceback(start):
    process = start(python("1 / 0"), **PIPES)
    assert "ZeroDivisionError" in process.communicate(timeout=60)[1]
    assert process.returncode == 1


@STARTS
def test_a_signal_reaches_it(start):
    process = start(python("import time; time.sleep(60)"), **PIPES)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


@STARTS
def test_a_module_finds_what_lies_where_it_is_run(tmp_path, start):
    (tmp_path / "main.py").write_text(
        "import beside, sys; print(beside.A, __name__, *sys.argv[1:])"
    )
    (tmp_path / "beside.py").write_text("A = 3")
    process = start([sys.executable, "-m", "main", "x"], cwd=tmp_path, **PIPES)
    assert process.communicate(timeout=60) == ("3 __main__ x\n", "")


def test_it_is_forked():
    process = processes.start(python("import sys; print('trm.train' in sys.modules)"), **PIPES)
    assert process.communicate(timeout=60)[0] == "True\n"
