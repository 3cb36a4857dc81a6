"""Run the notebooks and keep what they show: ``python docs/run_notebooks.py [NAME ...]``."""

import argparse
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def main() -> None:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(prog="docs/run_notebooks.py", description=__doc__)
    parser.add_argument("names", nargs="*", help="stems of their files; all, if there is none")
    names = parser.parse_args().names
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or path.stem in names:
            print(path)
            nbformat.write(executed(path), path)


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
    """Leave out warnings of one machine, and colours where nothing shows them."""
    shown = [output for output in outputs if output.get("name") != "stderr"]
    for output in shown:
        if "text/plain" in output.get("data", {}):
            output.data["text/plain"] = _COLOURS.sub("", output.data["text/plain"])
    return shown


if __name__ == "__main__":
    main()
