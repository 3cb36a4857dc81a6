"""Direct prediction: a plain transformer, the paper's baseline without recursion."""

from typing import Any

from torch import Tensor

from trm.models.trm import TinyRecursiveModel

_NETWORK: dict[str, Any] = {
    "layers": 8,
    "mixing": "attention",
    "positions": "rotary",
}


class DirectPrediction(TinyRecursiveModel):
    """One pass through many blocks; the state is ignored, so one supervision step is all.

    The halting head still learns to say whether the answer is right. Arguments are those of
    ``TinyRecursiveModel`` without the recursion; the network has 8 layers of attention with rotary
    positions unless told otherwise.

    Args:
        carried: add the answer of the step before to the question, as the transformer baseline
            among the released models does: supervision steps then matter, and it halts as HRM
    """

    one_pass = True

    def __init__(
        self,
        vocab_size: int,
        seq_len: int,
        *,
        prefix_len: int = 0,
        identifiers: int = 1,
        identifier_dim: int | None = None,
        carried: bool = False,
        **network: Any,
    ) -> None:
        super().__init__(
            vocab_size,
            seq_len,
            n=0,
            T=1,
            prefix_len=prefix_len,
            identifiers=identifiers,
            identifier_dim=identifier_dim,
            **_NETWORK | network,
        )
        self.carried = carried
        if carried:
            self.one_pass, self.halting = False, "continue"

    def deep_recursion(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from the question alone, or with the answer so far. All (batch, seq, dim)."""
        return self.net(x + y if self.carried else x), z
