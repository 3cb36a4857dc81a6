import socket
import threading
import urllib.error
import urllib.request

import pytest

from trm import serve


@pytest.fixture
def folder(tmp_path):
    tmp_path /= "page"
    (tmp_path / "models").mkdir(parents=True)
    for name in ("index.html", "ui.js", "ort.mjs", "ort.wasm", "models.json", "models/step.onnx"):
        (tmp_path / name).write_text("content")
    return tmp_path


@pytest.fixture
def url(folder):
    with serve.server(folder, 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html; charset=utf-8"),
        ("ui.js", "text/javascript; charset=utf-8"),
        ("ort.mjs", "text/javascript; charset=utf-8"),
        ("ort.wasm", "application/wasm"),
        ("models.json", "application/json"),
        ("models/step.onnx", "application/octet-stream"),
    ],
)
def test_files_come_with_their_types(url, name, kind):
    with urllib.request.urlopen(url + name) as response:
        assert response.headers["Content-Type"] == kind
        assert response.read() == b"content"


@pytest.mark.parametrize("name", ["models/", "../beside", "%2e%2e/beside", "nothing"])
def test_nothing_else_is_shown(url, folder, name):
    (folder.parent / "beside").write_text("not of the page")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(url + name)


def test_mistakes_are_one_line(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, said in (
            (["--folder", str(folder / "models")], "make demo builds it"),
            (["--folder", str(folder), "--port", port], f"--port={port} is taken"),
            (["--folder", str(folder), "--port", "70000"], "between 0 and 65535"),
        ):
            assert serve.main([*words, "--no-browser"]) == 2
            printed = capsys.readouterr()
            assert printed.err.startswith("error: ")
            assert said in printed.err
            assert printed.err.count("\n") == 1
            assert not printed.out
