"""Person matte: the network on a square around the person, refined along the picture's edges."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .guided_filter import enlarged, guided_filter
from .person_network import SIDE, PersonNetwork

ASSET = Path(__file__).resolve().parents[1] / "assets" / "person_matte.safetensors"
ROOM = 0.35  # of the crop's longer side, added around it for the second look: a hat at the edge is seen then
NEAR_EDGE = (0.25, 0.6)  # face widths from the picture's edge: that look counts, does not
BLURRED = 64  # pixels, side of the picture that fills that room
AROUND = (2.6, 2.2, 3.0)  # face widths from the middle of the face to the crop's sides, top, bottom
WINDOW = 0.08  # face widths, radius of the filter
SMOOTHNESS = 4e-4  # of a guide in [0, 1]: edges of 2 % of the range count
BACKGROUND = (0.15, 0.65)  # of the largest probability in the window: nobody, no limit
PERSON = (0.85, 0.95)  # of the smallest: no limit, nothing but person
CUT = (0.1, 0.9)  # of the filtered matte that count as 0 and as 1


@dataclass(frozen=True)
class Crop:
    """A rectangle of the picture, pixels."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, picture: Tensor) -> Tensor:
        return picture[..., self.top : self.bottom, self.left : self.right]


def crop_around(
    centre: tuple[float, float],  # x, y of the middle of the face, pixels
    face_width: float,  # pixels
    size: tuple[int, int],  # height, width of the picture
) -> Crop:
    """Head and shoulders, as far as the picture goes: what the network was made for, whatever the size of
    the face in the picture."""
    aside, up, down = (reach * face_width for reach in AROUND)
    return Crop(
        top=max(int(centre[1] - up), 0),
        left=max(int(centre[0] - aside), 0),
        bottom=min(int(centre[1] + down) + 1, size[0]),
        right=min(int(centre[0] + aside) + 1, size[1]),
    )


@functools.cache
def load_person_network(device: torch.device | str = "cpu", path: Path = ASSET) -> PersonNetwork:
    """The built-in network, float32 in memory."""
    if not path.is_file():
        raise FileNotFoundError(
            f"the weights of the person matte are missing: {path.name}; run scripts/convert_matte.py or "
            "install the pack again"
        )
    try:
        with safe_open(path, "pt") as file:
            provenance = json.loads((file.metadata() or {}).get("magicportrait", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path.name} cannot be read ({error}); install the pack again") from error
    if provenance.get("name") != "person_matte" or provenance.get("version") != 1:
        raise ValueError(f"{path.name} is not a version 1 person matte file; install the pack again")
    network = PersonNetwork()
    network.load_state_dict(tensors, strict=True)  # converts to float32
    return network.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)


@torch.no_grad()
def person_probability(
    network: PersonNetwork,
    picture: Tensor,  # (3, H, W) in [-1, 1]
    near_edge: Tensor | None = None,  # (H, W) 0..1, where a second look with room around it counts
) -> Tensor:  # (1, H, W) 0..1
    """What the network takes for a person. It cuts off what touches the edge of a picture, unless there is
    room around it; but with room it takes bright things beside a person for parts of him, so that look
    counts near the edge only."""
    seen = _look(network, picture)
    if near_edge is None or not bool(near_edge.any()):
        return seen
    with_room, top, side = _with_room(picture)
    height, width = picture.shape[-2:]
    roomy = _look(network, with_room)[:, top : top + height, side : side + width]
    return torch.maximum(seen, near_edge * roomy)


def nearness_to_edges(
    crop: Crop,
    size: tuple[int, int],  # height, width of the picture
    face_width: float,  # pixels
) -> Tensor:  # (h, w) of the crop, 0..1
    """1 beside the picture's upper, left and right edges, 0 further inside; people go on below."""
    rows = torch.arange(crop.top, crop.bottom)[:, None] + 0.5
    columns = torch.arange(crop.left, crop.right)[None] + 0.5
    distance = torch.minimum(rows, torch.minimum(columns, size[1] - columns)) / face_width
    return _ramp(NEAR_EDGE[1] - distance, 0, NEAR_EDGE[1] - NEAR_EDGE[0])


def refined(
    picture: Tensor,  # (3, H, W) in [-1, 1]
    probability: Tensor,  # (1, H, W) 0..1
    face_width: float,  # pixels
    large: Tensor | None = None,  # (3, H', W') the picture at an integer multiple of its size
) -> Tensor:  # (1, H, W) 0..1, or (1, H', W')
    """The matte: the network decides where the outline is, the picture how it runs.

    There is no person where the network sees none nearby, and nothing else where it is sure all around.
    """
    radius = max(2, round(WINDOW * face_width))
    large = picture if large is None else large
    matte = guided_filter((picture + 1) / 2, probability, radius, SMOOTHNESS, (large + 1) / 2)
    side = 2 * radius + 1
    most = F.max_pool2d(probability[None], side, 1, radius)[0]
    least = -F.max_pool2d(-probability[None], side, 1, radius)[0]
    most, least = enlarged(_ramp(most, *BACKGROUND), large), enlarged(_ramp(least, *PERSON), large)
    return _ramp(torch.maximum(matte.clamp(0, 1) * most, least), *CUT)


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    return ((x - low) / (high - low)).clamp(0, 1)


def _with_room(picture: Tensor) -> tuple[Tensor, int, int]:
    """The picture with its blurred edges around it, except below; and the room above and beside it."""
    height, width = picture.shape[-2:]
    longer = max(height, width)
    room = int(ROOM * longer)
    side = room + (longer - width) // 2  # square: nobody is stretched
    padded = F.pad(picture[None], (side, side, room, 0), mode="replicate")
    blurred = F.interpolate(padded, (BLURRED, BLURRED), mode="area")
    blurred = F.interpolate(blurred, padded.shape[-2:], mode="bilinear")[0]
    blurred[:, room:, side : side + width] = picture
    return blurred, room, side


def _look(network: PersonNetwork, picture: Tensor) -> Tensor:  # (1, H, W)
    device = next(network.parameters()).device
    small = F.interpolate(
        picture[None].to(device), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    seen = network((small + 1) / 2)
    seen = F.interpolate(seen, picture.shape[-2:], mode="bicubic", align_corners=False)
    return seen[0].clamp(0, 1).to(picture)
