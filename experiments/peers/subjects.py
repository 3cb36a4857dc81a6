"""Who is compared, and in what each differs from ours although the configuration is equal."""

from dataclasses import dataclass

from experiments.peers.drive_released import COMMIT

_PACKAGE = "experiments.peers"
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Subject:
    """A row of the table.

    Attributes:
        label: as printed
        driver: module that trains it
        requirement: what an environment of its own must hold; None: it runs in ours
        loosened: packages that it wants in another version than the constraints say
        unneeded: what it would have installed and its model does not use
        hidden_multiple: to which SwiGLU widths are rounded up
        differs: in what, for the reader
    """

    label: str
    driver: str
    requirement: str | None = None
    loosened: tuple[str, ...] = ()
    unneeded: tuple[str, ...] = ()
    hidden_multiple: int = 256
    differs: str = ""


OURS = "ours"
RELEASED = "released"
SUBJECTS: dict[str, Subject] = {
    OURS: Subject(
        "ours, equal configuration",
        f"{_PACKAGE}.drive_ours",
        differs="the shipped recipe with SwiGLU widths rounded up to 256 instead of 32",
    ),
    "nano-trm": Subject(
        "nano-trm 0.1.0",
        f"{_PACKAGE}.drive_nano_trm",
        requirement="nano-trm==0.1.0",
        loosened=("psutil",),
        unneeded=("torchvision",),  # beside a CPU build of torch, the usual one cannot be imported
        differs="the same network and losses under Lightning; it always clips gradients to norm 1, "
        "starts its warm-up at 0, and has a halting head of one logit",
    ),
    "tiny-recursive-model": Subject(
        "tiny-recursive-model 0.0.15",
        f"{_PACKAGE}.drive_lucidrains",
        requirement="tiny-recursive-model==0.0.15",
        differs="another network: LayerNorm before each of two GELU products of width 384, which "
        "take as many operations as our three of width 256; biases, a norm at the end, halting "
        "from the mean over cells; softmax, as it has no stable-max. In training a batch gets "
        "smaller as puzzles halt instead of being filled up, which the speed rows turn off. "
        "Weights are averaged every tenth step, with a decay of 0.995 to the tenth power",
    ),
    RELEASED: Subject(
        f"released code, {COMMIT}",
        f"{_PACKAGE}.drive_released",
        differs="its model, loss and EMA, without prefix positions, in a loop of ours, since its "
        "trainer needs CUDA; our AdamATan2 at the same learning rate in place of the CUDA "
        "kernel, where the others have AdamW",
    ),
    "recipe": Subject(
        "ours, shipped recipe",
        f"{_PACKAGE}.drive_ours",
        hidden_multiple=32,
        differs="SwiGLU widths rounded up to 32: 96 over cells and 256 over features",
    ),
}
