"""Show the page on which the shipped models think: ``python -m trm.serve``."""

import argparse
import errno
import sys
import webbrowser
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from trm.support.command_line import command, program
from trm.support.errors import InputError, check_between

_HOST = "127.0.0.1"  # this machine alone
PAGE = Path(__file__).with_name("play")  # built by "make demo", and part of a wheel made after it


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C; 2 if there is no page, or no port to serve it on."""
    options = _parser().parse_args(arguments)
    with server(options.folder, options.port) as serving:
        url = f"http://localhost:{serving.server_port}/"
        print(f"{url} shows the page; Ctrl-C ends it", flush=True)
        if not options.no_browser:
            webbrowser.open(url)
        serving.serve_forever()
    return 0


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of a built page that listens on this machine alone; it still has to serve.

    Args:
        folder: written by ``make demo``
        port: 0 for any that is free

    Raises:
        InputError: no page there, or a port that cannot be had
    """
    check_between(0, 65535, "--", port=port)
    if not (folder / "index.html").is_file():
        raise InputError(
            f"{folder} holds no page; in a checkout make demo builds it, --folder=... names another"
        )
    try:
        return ThreadingHTTPServer((_HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        reason = "is taken" if error.errno == errno.EADDRINUSE else "is for administrators alone"
        raise InputError(f"--port={port} {reason}; choose another, or 0 for any") from None


class _Handler(SimpleHTTPRequestHandler):
    """Serves the files of one folder, and lists nothing."""

    # Said here: what the machine says of endings differs from one to the next.
    extensions_map = {  # noqa: RUF012 - the base class has it so
        **SimpleHTTPRequestHandler.extensions_map,
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }

    def end_headers(self) -> None:
        """Let browsers ask again: a page that is built anew is to be seen."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        """Refuse."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each file."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program("trm.serve"),
        description="Show the page on which the shipped models think, on this machine alone.",
    )
    parser.add_argument("--port", type=int, default=8000, help="to listen on; 0 for any (8000)")
    parser.add_argument("--no-browser", action="store_true", help="open none")
    parser.add_argument("--folder", type=Path, default=PAGE, help="of another build of the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
