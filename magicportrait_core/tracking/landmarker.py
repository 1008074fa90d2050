"""Landmarker: faces of a picture as 478 points and 52 blendshape coefficients."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .detector import Detection, detect_faces, further_squares, whole_picture
from .face_region import REGION_SCALE, Region, cut, overlap, region_of_points
from .landmarker_networks import (
    BLENDSHAPE_NAMES,
    BLENDSHAPE_POINTS,
    MESH_SIZE,
    FaceLandmarkNetworks,
)
from .observation import FaceObservation

ASSET = Path(__file__).resolve().parents[1] / "assets" / "face_landmarker.safetensors"
MIN_SCORE = 0.5  # of the detector and of the mesh network, as published
SAME_FACE_OVERLAP = 0.5  # boxes of the points of one face seen twice overlap at least this much
MAX_READINGS = 4  # of a face whose first region is rough
MAX_TILT = math.radians(10)  # between the detector's region and the points' from which it is read again
# Mean move of the points between the last two readings, over the region: 0.009 at most for 24 faces found
# in parts of real pictures, 0.015 and more for 8 things that were none, which scored 0.75 at most.
MAX_UNREST = 0.012
SETTLED = 0.001  # the same move, below which a face found in the whole picture is at rest
SURE_SCORE = 0.8
COARSE_MIN_SCORE = 0.6  # a hundred tiles give more false alarms than one picture
NEARBY = 4.0  # side of the square in which a lost face is looked for first, over the face's size


__all__ = ["BLENDSHAPE_NAMES", "CanonicalFace", "Landmarker", "load_landmarker"]


@dataclass(frozen=True)
class CanonicalFace:
    """MediaPipe's average face; the frame of its facial transformation matrix."""

    vertices: Tensor  # (468, 3) centimetres, y up, z towards the viewer
    uvs: Tensor  # (468, 2)
    triangles: Tensor  # (898, 3) int32
    pose_points: Tensor  # (N,) int32, the points the pose is solved from
    pose_weights: Tensor  # (N,)


@dataclass(frozen=True)
class Landmarker:
    """The networks and what to do with them. Holds no state between pictures."""

    networks: FaceLandmarkNetworks
    canonical: CanonicalFace

    @property
    def device(self) -> torch.device:
        return next(self.networks.parameters()).device

    @torch.no_grad()  # not inference mode: its tensors could never take part in a fit with gradients
    def observe(
        self,
        image: Tensor,  # (3, H, W) in [-1, 1]
        previous: Sequence[FaceObservation] | None = None,
        max_faces: int = 1,
        thorough: bool = True,
        settle: bool = False,
        still: Sequence[bool] | None = None,  # for each of `previous`
    ) -> list[FaceObservation]:
        """Faces of one picture, at most `max_faces`.

        Faces of the `previous` frame are read where they were, and come first and in their order; those
        known to be `still` are taken over as they are. Where they are lost, or fewer than asked for, the
        whole picture is searched, best score first; if it shows none, around where they were. `thorough`
        then looks in parts of the picture as well (up to a few hundred milliseconds). A found face is read
        once, as MediaPipe does; with `settle` it is read until its points rest, as they do in the frames
        that follow, so that the first frame of a still clip does not differ from the others.
        """
        check_picture(image)
        if max_faces < 1:
            raise ValueError(f"max_faces={max_faces}; expected 1 or more")
        image = image.float()
        previous = list(previous or ())
        regions = [region_of_points(face.points) for face in previous]
        faces = distinct(self._followed(image, previous, regions, still))[:max_faces]
        if len(faces) < max_faces:
            faces = self._add_detected(
                image, faces, [whole_picture(image.shape[-2:])], max_faces, settle=settle
            )
        if not faces and regions:
            faces = self._add_detected(image, [], [nearby(r) for r in regions], max_faces, coarse=True)
        if not faces and thorough:
            faces = self._search(image, max_faces)
        return faces

    @torch.no_grad()
    def observe_everywhere(
        self, image: Tensor, max_faces: int, settle: bool = False
    ) -> list[FaceObservation]:
        """As `observe` without a frame before, but parts of the picture are searched even when faces are
        found in the whole: a small face beside a large one is seen. Up to a few hundred milliseconds."""
        faces = self.observe(image, None, max_faces, thorough=False, settle=settle)
        for squares in further_squares(tuple(image.shape[-2:])):
            if len(faces) < max_faces:
                faces = self._add_detected(image.float(), faces, squares, max_faces, coarse=True)
        return faces

    @torch.no_grad()
    def read(
        self,
        image: Tensor,  # (3, H, W) in [-1, 1]
        regions: Sequence[Region],
        scores: Sequence[float] | None = None,  # of the detector, per region
    ) -> list[FaceObservation]:
        """The faces in `regions`; regions in which the mesh network sees none are left out."""
        return [face for face in self._read_each(image, regions, scores) if face is not None]

    def _followed(
        self,
        image: Tensor,
        previous: Sequence[FaceObservation],
        regions: Sequence[Region],
        still: Sequence[bool] | None,
    ) -> list[FaceObservation]:
        still = still or [False] * len(previous)
        moving = [region for region, same in zip(regions, still, strict=True) if not same]
        found = iter(self._read_each(image, moving))
        faces = [face if same else next(found) for face, same in zip(previous, still, strict=True)]
        return [face for face in faces if face is not None]

    def _read_each(
        self, image: Tensor, regions: Sequence[Region], scores: Sequence[float] | None = None
    ) -> list[FaceObservation | None]:
        """As `read`, with None for regions in which the mesh network sees no face."""
        if not regions:
            return []
        crops = cut(image, regions, MESH_SIZE) / 255
        points, logits = self.networks.mesh(
            crops.to(self.device).contiguous(memory_format=torch.channels_last)
        )
        presence = logits.sigmoid().tolist()
        points = points.cpu() / MESH_SIZE
        kept = [index for index, value in enumerate(presence) if value >= MIN_SCORE]
        faces: list[FaceObservation | None] = [None] * len(regions)
        if not kept:
            return faces
        points = torch.stack([regions[index].to_picture(points[index]) for index in kept])
        subset = points[:, BLENDSHAPE_POINTS, :2].to(self.device)
        blendshapes = self.networks.blendshapes(subset).cpu()
        for row, index in enumerate(kept):
            faces[index] = FaceObservation(
                points=points[row],
                blendshapes=blendshapes[row],
                presence=presence[index],
                score=scores[index] if scores is not None else presence[index],
            )
        return faces

    def _add_detected(
        self,
        image: Tensor,
        faces: list[FaceObservation],
        squares: Sequence[Region],
        max_faces: int,
        coarse: bool = False,  # the squares are parts of the picture, found regions are rough
        settle: bool = False,
    ) -> list[FaceObservation]:
        least = COARSE_MIN_SCORE if coarse else MIN_SCORE
        detections = detect_faces(self.networks.detector, image, squares, least)
        fresh = [d for d in detections if all(overlap(d.box, face.box) < 0.3 for face in faces)]
        for detection in fresh:
            if len(faces) >= max_faces:
                break
            if (face := self._settle(image, detection, coarse, settle)) is not None:
                faces = distinct([*faces, face])
        return faces

    def _settle(
        self, image: Tensor, detection: Detection, coarse: bool, settle: bool
    ) -> FaceObservation | None:
        """The face of a detection, read again in its own region where the detector's was off, or until its
        points rest. A face found in a part of the picture must come to rest: what only resembles one (a fist,
        a window) does not."""
        region, face, unrest = detection.region, None, math.inf
        sure = detection.score >= SURE_SCORE  # a profile may be lost on a second look
        for _ in range(MAX_READINGS):
            found = self.read(image, [region], [detection.score])
            if not found:
                return face if sure or (settle and not coarse) else None
            if face is not None:
                unrest = float((found[0].points - face.points).norm(dim=-1).mean()) / region.width
            face, before = found[0], region
            region = region_of_points(face.points)
            tilt = abs(math.remainder(region.angle - before.angle, 2 * math.pi))
            if not coarse and (unrest < SETTLED if settle else tilt < MAX_TILT):
                return face
        return face if not coarse or sure or unrest < MAX_UNREST else None

    def _search(self, image: Tensor, max_faces: int) -> list[FaceObservation]:
        for squares in further_squares(tuple(image.shape[-2:])):
            if faces := self._add_detected(image, [], squares, max_faces, coarse=True):
                return faces
        return []


def nearby(region: Region) -> Region:
    side = region.width / REGION_SCALE * NEARBY
    return Region(region.x, region.y, side, side, region.angle)


def distinct(faces: Sequence[FaceObservation]) -> list[FaceObservation]:
    """Without later faces that lie on an earlier one."""
    kept: list[FaceObservation] = []
    for face in faces:
        if all(overlap(face.box, other.box) < SAME_FACE_OVERLAP for other in kept):
            kept.append(face)
    return kept


def check_picture(image: Tensor) -> None:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape or not image.is_floating_point():
        raise ValueError(
            f"picture is {tuple(image.shape)} of {image.dtype}; expected a float tensor (3, H, W) in [-1, 1]"
        )


def load_landmarker(device: torch.device | str = "cpu", path: Path = ASSET) -> Landmarker:
    """The built-in landmarker. Weights are float16 in the file and float32 in memory: the mesh network's
    activations exceed what half precision resolves to a hundredth of a pixel."""
    if not path.is_file():
        raise FileNotFoundError(
            f"face landmarker weights are missing: {path.name}; run scripts/convert_landmarker.py or "
            "install the pack again"
        )
    try:
        with safe_open(path, "pt") as file:
            provenance = json.loads((file.metadata() or {}).get("magicportrait", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path.name} cannot be read ({error}); install the pack again") from error
    if provenance.get("name") != "face_landmarker" or provenance.get("version") != 1:
        raise ValueError(f"{path.name} is not a version 1 face landmarker file; install the pack again")
    prefix = "canonical."
    canonical = {name[len(prefix) :]: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
    networks = FaceLandmarkNetworks()
    networks.load_state_dict(tensors, strict=True)  # converts to float32
    networks = networks.to(device=device, memory_format=torch.channels_last)
    return Landmarker(networks.eval().requires_grad_(False), CanonicalFace(**canonical))
