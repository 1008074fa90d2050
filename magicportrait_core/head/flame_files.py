"""Reads FLAME (2020, 2023, 2023 Open, gender-specific, no-jaw variants) from the files its authors publish.

Keys and shapes: v_template (V, 3), shapedirs (V, 3, 400) = 300 identity + 100 expression,
posedirs (V, 3, 36), J_regressor (5, V), kintree_table (2, 5), weights (V, 5), f (T, 3). Li et al. 2017.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .files import HeadFileError
from .model import JOINT_NAMES, LEFT_EYE, NUM_JOINTS, RIGHT_EYE, SKIN, HeadModel
from .safe_pickle import RefusedPickle, read_pickle
from .uv_files import cylindrical_uvs, read_template_uvs

NUM_IDENTITY = 300  # of FLAME's 400 components; the rest are expressions
NUM_COMPONENTS = 400
TEMPLATE_OBJ = "head_template.obj"  # published beside FLAME's texture space; has the texture coordinates
EYELIDS = ("l_eyelid.npy", "r_eyelid.npy")  # published with SMIRK: vertices moved by a closed lid
LEFT, RIGHT = 3, 4  # eye joints
PARENTS = (-1, 0, 1, 1, 1)
RESEARCH_LICENCE = "FLAME model licence (non-commercial research), Max Planck Institute"
OPEN_LICENCE = "CC-BY-4.0, Max Planck Institute (FLAME 2023 Open)"


@dataclass(frozen=True)
class FlameVariant:
    """One published file, recognised by its name."""

    stem: str
    name: str
    licence: str = RESEARCH_LICENCE
    jaw_in_expression: bool = False


VARIANTS = tuple(
    FlameVariant(*row)
    for row in (
        ("generic_model", "flame2020"),
        ("female_model", "flame2020_female"),
        ("male_model", "flame2020_male"),
        ("flame2023", "flame2023"),
        ("flame2023_no_jaw", "flame2023_no_jaw", RESEARCH_LICENCE, True),
        ("flame2023_open", "flame2023_open", OPEN_LICENCE),
    )
)


def read_flame(path: str | Path, template_obj: str | Path | None = None, eyelids: bool = False) -> HeadModel:
    """The head in a FLAME pickle, without landmarks (tracking.calibration finds them).

    Texture coordinates come from `template_obj`, else from head_template.obj in the same folder, else from a
    cylinder around the head. `eyelids` adds SMIRK's lids, from l_eyelid.npy and r_eyelid.npy in the same
    folder. Raises HeadFileError with one sentence for every file that is not FLAME.
    """
    path = Path(path)
    data = _read(path)
    _check_kind(path, data)
    template = _array(path, data, "v_template", (None, 3))
    count = len(template)
    basis = _array(path, data, "shapedirs", (count, 3, NUM_COMPONENTS))
    correctives = _array(path, data, "posedirs", (count, 3, 9 * (NUM_JOINTS - 1)))
    weights = _array(path, data, "weights", (count, NUM_JOINTS))
    regressor = _array(path, data, "J_regressor", (NUM_JOINTS, count))
    faces = _array(path, data, "f", (None, 3)).long()
    if faces.min() < 0 or faces.max() >= count:
        raise HeadFileError(
            f"{path.name}: a triangle names vertex {int(faces.max())} of {count}; the file is damaged"
        )
    variant = _variant(path, template)
    obj = Path(template_obj) if template_obj else path.parent / TEMPLATE_OBJ
    uvs, faces_uv = read_template_uvs(obj, faces) if obj.is_file() else cylindrical_uvs(template, faces)
    shapes = basis.permute(2, 0, 1).contiguous()
    joints = torch.einsum("jv,cvx->cjx", regressor, shapes)
    still_jaw = bool((weights[:, JOINT_NAMES.index("jaw")] < 1e-6).all())
    return HeadModel(
        name=variant.name,
        licence=variant.licence,
        template=template,
        shape_basis=shapes[:NUM_IDENTITY],
        expression_basis=shapes[NUM_IDENTITY:],
        pose_correctives=correctives.permute(2, 0, 1).contiguous(),
        skin_weights=weights,
        joints_template=regressor @ template,
        joints_shape=joints[:NUM_IDENTITY],
        joints_expression=joints[NUM_IDENTITY:],
        parents=PARENTS,
        faces=faces,
        uvs=uvs,
        faces_uv=faces_uv,
        regions=_eye_regions(weights, faces),
        expression_names=tuple(f"expression_{i}" for i in range(NUM_COMPONENTS - NUM_IDENTITY)),
        landmarks=None,
        expression_limits=(-float("inf"), float("inf")),
        jaw_in_expression=variant.jaw_in_expression or still_jaw,
        mirror=nearest_mirror(template),
        cavity=torch.zeros(len(faces), dtype=torch.bool),
        iris=torch.zeros(len(faces), dtype=torch.int64),
        eyelid_basis=torch.stack([_eyelid(path.parent / name, count) for name in EYELIDS])
        if eyelids
        else None,
    )


def nearest_mirror(template: Tensor) -> Tensor:  # (V,) int64
    """The vertex nearest to the mirror image of each: FLAME's topology is symmetric, its template nearly."""
    image = template * template.new_tensor([-1.0, 1.0, 1.0])
    return torch.cat([torch.cdist(part, template).argmin(1) for part in image.split(512)])


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = read_pickle(file)
    except RefusedPickle as error:
        raise HeadFileError(
            f"{path.name} asks to load {error}, which no FLAME file contains; nothing in it "
            "ran: download FLAME again from flame.is.tue.mpg.de"
        ) from None
    except FileNotFoundError:
        raise HeadFileError(f"no FLAME file at {path}; download it from flame.is.tue.mpg.de") from None
    except Exception as error:  # a damaged pickle may raise anything
        raise HeadFileError(
            f"{path.name} ({path.stat().st_size:,} bytes) cannot be read as a FLAME pickle "
            f"({type(error).__name__}: {error}); it is cut short or of another kind: download it again"
        ) from None
    if not isinstance(data, dict):
        raise HeadFileError(f"{path.name} holds a {type(data).__name__}, not FLAME's table of arrays")
    return data


def _check_kind(path: Path, data: dict[str, Any]) -> None:
    needed = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f")
    missing = [key for key in needed if key not in data]
    if {"shapePC", "shapeMU", "idBase", "meanshape"} & set(data):
        raise HeadFileError(
            f"{path.name} is a Basel face model; this pack reads FLAME (2020, 2023, 2023 Open) files"
        )
    if missing:
        raise HeadFileError(
            f"{path.name} lacks {', '.join(missing)} and is no FLAME model; expected generic_model.pkl, "
            "flame2023.pkl or flame2023_Open.pkl"
        )
    weights = np.shape(data["weights"])
    if len(weights) == 2 and weights[1] != NUM_JOINTS:
        raise HeadFileError(
            f"{path.name} has {weights[1]} joints, FLAME has {NUM_JOINTS} ({', '.join(JOINT_NAMES)}); "
            "body models such as SMPL or SMPL-X cannot be used as a head"
        )
    tree = np.asarray(data.get("kintree_table", [[0, 0, 1, 1, 1]]))
    if tree.shape[-1] == NUM_JOINTS and tuple(int(p) for p in tree[0, 1:]) != PARENTS[1:]:
        raise HeadFileError(f"{path.name}: joints hang on {tree[0].tolist()}, FLAME's on {list(PARENTS)}")


def _array(path: Path, data: dict[str, Any], key: str, shape: tuple[int | None, ...]) -> Tensor:
    try:
        array = np.asarray(data[key], dtype=np.float64)
    except (TypeError, ValueError):
        raise HeadFileError(
            f"{path.name}: {key} is not an array of numbers; download the file again"
        ) from None
    fits = array.ndim == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        expected = " x ".join("any" if n is None else str(n) for n in shape)
        raise HeadFileError(
            f"{path.name}: {key} has shape {array.shape}, FLAME's is {expected} of finite numbers; "
            "download the original file"
        )
    return torch.from_numpy(np.ascontiguousarray(array)).float()


def _variant(path: Path, template: Tensor) -> FlameVariant:
    for variant in VARIANTS:
        if path.stem.lower() == variant.stem:
            return variant
    digest = hashlib.sha256(template.numpy().tobytes()).hexdigest()[:8]
    return FlameVariant(path.stem, f"flame_{digest}", jaw_in_expression="no_jaw" in path.stem.lower())


def _eyelid(path: Path, num_vertices: int) -> Tensor:  # (V, 3)
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise HeadFileError(
            f"eyelids need {' and '.join(EYELIDS)} (published with SMIRK) beside FLAME's file, but "
            f"{path.name} is not there; put it there, or leave eyelids off"
        ) from None
    except (ValueError, OSError, EOFError) as error:
        raise HeadFileError(
            f"{path.name} cannot be read as an array ({type(error).__name__}); download it again"
        ) from None
    return _array(path, {path.stem: array}, path.stem, (num_vertices, 3))


def _eye_regions(weights: Tensor, faces: Tensor) -> Tensor:  # (T,) index into REGIONS
    """Eyeballs are what turns with the eye joints; FLAME has no teeth or tongue."""
    regions = torch.full((len(faces),), SKIN)
    for joint, region in ((LEFT, LEFT_EYE), (RIGHT, RIGHT_EYE)):
        regions[(weights[faces, joint] > 0.5).all(1)] = region
    return regions
