"""Direct prediction: a plain transformer, the paper's baseline without recursion."""

from torch import Tensor

from trm.models.layers import Mixing
from trm.models.trm import Positions, TinyRecursiveModel


class DirectPrediction(TinyRecursiveModel):
    """One pass through many blocks; the state is ignored, so one supervision step is all.

    The halting head still learns to say whether the answer is right. Arguments are those of
    ``TinyRecursiveModel`` without the recursion.
    """

    one_pass = True

    def __init__(
        self,
        vocab_size: int,
        seq_len: int,
        *,
        dim: int = 512,
        layers: int = 8,
        mixing: Mixing = "attention",
        positions: Positions = "rotary",
        heads: int = 8,
        expansion: float = 4,
        hidden_multiple: int = 256,
        convolution: int = 0,
        columns: int | None = None,
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
            n=0,
            T=1,
            prefix_len=prefix_len,
            identifiers=identifiers,
            identifier_dim=identifier_dim,
        )

    def deep_recursion(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from the question alone."""
        return self.net(x), z
