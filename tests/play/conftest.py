"""The built page, as it would be after the next build: its networks are kept, its sources fresh."""

import importlib.util
import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from trm.serve import PAGE, server

PLAY = Path(__file__).parents[2] / "docs" / "play"


def builder():
    """Import docs/play/build.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("play_build", PLAY / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def page(tmp_path_factory) -> Path:
    """Put the page below another folder, as a host of many pages does."""
    if not (PAGE / "index.html").is_file():
        pytest.skip("the page is not built; make demo builds it")
    site = tmp_path_factory.mktemp("site")
    (site / "index.html").write_text("another page")
    shutil.copytree(PAGE, site / "deep" / "play")
    builder().copy_sources(site / "deep" / "play")
    return site / "deep" / "play"


@pytest.fixture(scope="session")
def call(page):
    """Call the page's own code in Node: ``call(name, **arguments)``."""
    if shutil.which("node") is None:
        pytest.skip("there is no node")

    def run(name: str, **arguments):
        words = ["node", str(Path(__file__).with_name("page.mjs")), str(page), name]
        ended = subprocess.run(words, input=json.dumps(arguments), capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr[-2000:]
        return json.loads(ended.stdout)

    return run


@pytest.fixture(scope="session")
def url(page):
    with server(page.parents[1], 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://localhost:{serving.server_port}/deep/play/"
        serving.shutdown()
