"""Networks with one signature: ``model(x_input, puzzle_id, state) -> Step``."""

from trm.models.competing import CompetingModel
from trm.models.damped import DampedModel
from trm.models.direct import DirectPrediction
from trm.models.feedback import FeedbackModel
from trm.models.flow import FlowModel
from trm.models.hrm import HierarchicalReasoningModel
from trm.models.local import LocalModel
from trm.models.recursion import RecursiveModel, State, Step, trajectory
from trm.models.symmetric import SymmetricModel
from trm.models.trm import TinyRecursiveModel
from trm.models.variants import MultiScaleModel, SingleLatentModel

__all__ = [
    "CompetingModel",
    "DampedModel",
    "DirectPrediction",
    "FeedbackModel",
    "FlowModel",
    "HierarchicalReasoningModel",
    "LocalModel",
    "MultiScaleModel",
    "RecursiveModel",
    "SingleLatentModel",
    "State",
    "Step",
    "SymmetricModel",
    "TinyRecursiveModel",
    "trajectory",
]
