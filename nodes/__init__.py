"""The node pack's list of nodes."""

from .aggregation import TemporalAggregate
from .alignment import AlignIdentity
from .crop import CropFace
from .decoding import DecodePortrait
from .guidance import RenderGuidance
from .host import register_model_folder
from .loaders import LoadTracker
from .model_files import LoadModel
from .motion import EncodeGuidance
from .sampling import Sampler
from .segment_files import LoadSegments, SaveSegments
from .track_files import LoadTrack, SaveTrack
from .tracking import TrackVideo
from .warp import FlowWarpPreview

NODES = [
    LoadTracker,
    CropFace,
    TrackVideo,
    AlignIdentity,
    RenderGuidance,
    FlowWarpPreview,
    SaveTrack,
    LoadTrack,
    LoadModel,
    EncodeGuidance,
    Sampler,
    TemporalAggregate,
    DecodePortrait,
    SaveSegments,
    LoadSegments,
]

__all__ = ["NODES", "register_model_folder"]
