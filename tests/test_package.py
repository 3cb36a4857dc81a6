import subprocess
import sys

import pytest

import trm


def loaded_after(code: str) -> set[str]:
    code += "\nimport sys; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_the_model_needs_neither_lightning_nor_hydra_nor_wandb():
    modules = loaded_after(
        "import trm; trm.TinyRecursiveModel; trm.Sudoku; trm.load; trm.trajectory; trm.Solver"
    )
    assert not modules & {"lightning", "hydra", "omegaconf", "wandb"}


def test_importing_the_package_imports_nothing_heavy():
    assert "torch" not in loaded_after("import trm")


def test_training_does_not_import_wandb():
    assert "wandb" not in loaded_after("import trm.train")


def test_public_names_are_there_and_others_are_not():
    assert all(getattr(trm, name) is not None for name in trm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = trm.nothing
