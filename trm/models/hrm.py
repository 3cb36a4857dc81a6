"""The Hierarchical Reasoning Model (Wang et al., arXiv 2506.21734), the baseline TRM simplifies."""

from trm.models.layers import Mixing
from trm.models.recursion import Halting
from trm.models.trm import Positions, TinyRecursiveModel


class HierarchicalReasoningModel(TinyRecursiveModel):
    """TRM's recursion with two networks and the gradient of one step.

    In HRM's words, ``z`` is the low-level state, refined ``n`` times (L_cycles) by a fast network
    that sees ``z + y + x``; ``y`` is the high-level state, updated ``T`` times (H_cycles) by a slow
    network that sees ``y + z``. Only the last update of each carries gradient. Arguments are those
    of ``TinyRecursiveModel``; ``layers`` counts the blocks of *each* network.
    """

    halting: Halting = "continue"

    def __init__(
        self,
        vocab_size: int,
        seq_len: int,
        *,
        dim: int = 512,
        layers: int = 4,
        mixing: Mixing = "attention",
        positions: Positions = "rotary",
        heads: int = 8,
        expansion: float = 4,
        hidden_multiple: int = 256,
        convolution: int = 0,
        columns: int | None = None,
        n: int = 2,
        T: int = 2,
        prefix_len: int = 0,
        identifiers: int = 1,
        identifier_dim: int | None = None,
    ) -> None:
        super().__init__(
            vocab_size,
            seq_len,
            dim=dim,
            layers=layers,
            mixing=mixing,
            positions=positions,
            heads=heads,
            expansion=expansion,
            hidden_multiple=hidden_multiple,
            convolution=convolution,
            columns=columns,
            n=n,
            T=T,
            separate=True,
            gradient="one_step",
            prefix_len=prefix_len,
            identifiers=identifiers,
            identifier_dim=identifier_dim,
        )
