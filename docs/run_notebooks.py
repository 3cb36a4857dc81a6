"""Run the notebooks and keep what they show: ``python docs/run_notebooks.py [NAME ...]``."""

import argparse
import re
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
_TEMPORARY = re.compile(re.escape(gettempdir()) + r"/\w+/")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def main() -> None:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(prog="docs/run_notebooks.py", description=__doc__)
    found = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(found)} (all)")
    names = parser.parse_args().names or list(found)
    if unknown := set(names) - found.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for name in names:
        print(found[name])
        nbformat.write(executed(found[name]), found[name])


def executed(path: Path) -> Any:
    """Run a notebook in an empty folder and return it with what a reader is to see."""
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}  # when it was run
        if cell.cell_type == "code":
            cell.outputs = kept(cell.outputs)
    return notebook


def kept(outputs: list[Any]) -> list[Any]:
    """Leave out warnings and folders of one machine, and colours where nothing shows them."""
    shown = [output for output in outputs if output.get("name") != "stderr"]
    for output in shown:
        texts = output.get("data", output)
        for kind in texts.keys() & {"text", "text/plain", "text/html"}:
            text = _TEMPORARY.sub("", texts[kind])
            texts[kind] = text if kind == "text/html" else _COLOURS.sub("", text)
    return shown


if __name__ == "__main__":
    main()
