"""Private by construction: train, evaluate and solve with every network cut off."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import TINY

# Python tells its audit hooks of every socket, whoever opens it; local ones (AF_UNIX) may stay.
GUARD = """
import socket, sys

def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"network: {event} {arguments}")
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        if arguments[0].family != socket.AF_UNIX:
            raise RuntimeError(f"network: {event} {arguments[1:]}")

sys.addaudithook(refuse)
"""

# One process imports all that the commands import, and becomes one after the other.
IN_TURN = """
import json, runpy, sys

for words in json.loads(sys.argv[1]):
    print("$", *words, file=sys.stderr)
    sys.argv[:] = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code:
            raise
print("$ all ended well", file=sys.stderr)
"""


def namespace() -> list[str]:
    """Return the words that run a command where there is no network at all, if that can be had."""
    words = ["unshare", "--map-root-user", "--net"]
    able = shutil.which(words[0]) and not subprocess.run([*words, "true"]).returncode
    return words if able else []


@pytest.fixture
def cut_off(tmp_path):
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    paths = [str(guard), os.getcwd()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    for name in ("HF_HUB_OFFLINE", "WANDB_MODE"):  # nothing has to ask for it
        environment.pop(name, None)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*namespace(), sys.executable, *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_the_guard_refuses(cut_off):
    ended = cut_off("-c", "import socket; socket.create_connection(('192.0.2.1', 80), 1)")
    assert "RuntimeError: network" in ended.stderr


def test_training_evaluating_and_solving_need_no_network(cut_off, tmp_path):
    run_dir = tmp_path / "run"
    commands = [
        ["trm.train", *TINY, "experiment=sudoku_4x4", f"run_dir={run_dir}"],
        ["trm.evaluate", f"checkpoint={run_dir / 'checkpoints' / 'best.ckpt'}", "batch_size=8"],
        ["trm.solve", "sudoku-6x6", "4....2.1.6.........3..5..4....5.21.."],
        ["trm.describe", "maze-10x10"],
        ["trm.compare", str(run_dir)],
    ]
    ended = cut_off("-c", IN_TURN, json.dumps(commands))
    assert ended.returncode == 0, ended.stderr
    assert "network" not in ended.stderr
    assert ended.stderr.count("\n$ ") == len(commands), "each was begun, and the last one ended"
