"""The Hierarchical Reasoning Model (Wang et al., arXiv 2506.21734), the baseline TRM simplifies."""

from typing import Any

from trm.models.recursion import Halting
from trm.models.trm import TinyRecursiveModel

_NETWORK: dict[str, Any] = {
    "layers": 4,
    "mixing": "attention",
    "positions": "rotary",
}


class HierarchicalReasoningModel(TinyRecursiveModel):
    """TRM's recursion with two networks and the gradient of one step.

    In HRM's words, ``z`` is the low-level state, refined ``n`` times (L_cycles) by a fast network
    that sees ``z + y + x``; ``y`` is the high-level state, updated ``T`` times (H_cycles) by a slow
    network that sees ``y + z``. Only the last update of each carries gradient. Arguments are those
    of ``TinyRecursiveModel``, but that each network has 4 layers of attention with rotary positions
    unless told otherwise.
    """

    halting: Halting = "continue"

    def __init__(
        self,
        vocab_size: int,
        seq_len: int,
        *,
        n: int = 2,
        T: int = 2,
        prefix_len: int = 0,
        identifiers: int = 1,
        identifier_dim: int | None = None,
        **network: Any,
    ) -> None:
        super().__init__(
            vocab_size,
            seq_len,
            n=n,
            T=T,
            separate=True,
            gradient="one_step",
            prefix_len=prefix_len,
            identifiers=identifiers,
            identifier_dim=identifier_dim,
            **_NETWORK | network,
        )
