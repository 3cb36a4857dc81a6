"""Commands in processes of their own, without the seconds that each would take to import.

A server imports the library once and is forked for each command. What is started so has a folder,
words, streams, signals and an exit status of its own, as if a person had started it. What only a
fresh interpreter shows is left to those tests that start commands in earnest: train and evaluate
in test_train.py, solve in test_solve.py, the table runner in experiments/test_paper_tables.py.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from multiprocessing.connection import Connection
from threading import Thread

IMPORTED = ["trm.train", "trm.evaluate", "trm.solve", "torch._dynamo"]
_IN_EARNEST = subprocess.Popen
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(IMPORTED)


def start(command, **settings):
    """Stand in for ``subprocess.Popen``: fork what is Python's, start all else in earnest."""
    if command[0] != sys.executable or command[1] not in ("-m", "-c"):
        return _IN_EARNEST(command, **settings)
    return Forked(command, **settings)


class Forked:
    """What the tests and the library need of ``subprocess.Popen``, by the same names."""

    def __init__(self, args, cwd=None, env=None, stdin=None, stdout=None, stderr=None, **how):
        self.args, self.returncode = args, None
        nothing = os.open(os.devnull, os.O_WRONLY) if stdin == subprocess.PIPE else None
        self.stdin = nothing and os.fdopen(nothing, "wb")  # it is not read: all have an empty one
        self.stdout, out = _stream(stdout, 1)
        self.stderr, err = (None, out) if stderr == subprocess.STDOUT else _stream(stderr, 2)
        ready, is_ready = _SERVER.Pipe(duplex=False)
        place = os.path.abspath(cwd or "."), dict(os.environ if env is None else env)
        streams = [Connection(os.dup(number), readable=False) for number in (out, err)]
        own_session = how.pop("start_new_session", False)
        self._text = how.pop("text", False)
        assert not {name for name in how if how[name]} - {"close_fds"}, f"not emulated: {how}"
        arguments = list(args[1:]), *place, own_session, streams, is_ready
        self._process = _SERVER.Process(target=_command, args=arguments, daemon=True)
        self._process.start()
        for stream in {is_ready, *streams}:
            stream.close()
        for number in {out, err} - {1, 2}:
            os.close(number)
        ready.recv()
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wait()

    def poll(self):
        """Return the exit status, None while it runs."""
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout=None):
        """Return the exit status, once there is one."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, input=None, timeout=None):
        """Return what it says until all that write into its streams have ended."""
        said = {}
        readers = [
            Thread(target=lambda stream=stream: said.update({stream: stream.read()}), daemon=True)
            for stream in (self.stdout, self.stderr)
            if stream
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(timeout)
        return tuple(
            stream and (said[stream].decode() if self._text else said[stream])
            for stream in (self.stdout, self.stderr)
        )

    def send_signal(self, number):
        """Send a signal to a process that has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """End it at once."""
        self._process.kill()


def _stream(where, number):
    """Return what is read here, if anything, and the number of what is written there."""
    if where == subprocess.PIPE:
        read, write = os.pipe()
        return os.fdopen(read, "rb"), write
    if where == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_WRONLY)
    return None, number if where is None else os.dup(where.fileno())


def _command(words, folder, environment, own_session, streams, is_ready):
    """Become, in the forked process, what ``python`` with these words is."""
    for number, stream in enumerate(streams, 1):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    if own_session:
        os.setsid()
    is_ready.send(None)
    is_ready.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    option, what, *sys.argv[1:] = words
    if option == "-c":
        exec(what, {"__name__": "__main__"})
    else:
        sys.modules.pop(what, None)  # it is run, not what was imported
        runpy.run_module(what, run_name="__main__", alter_sys=True)
