"""Head models on disk: our safetensors format, and load_head() for every kind of head file.

A file holds the tensors of a HeadModel under the names of its fields, and one JSON text in the header with
the rest (one, because safetensors writes several in random order and a rebuild should give the same bytes).
Expressions that move few vertices are stored as the moved vertices only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .files import HeadFileError
from .flame_files import read_flame
from .model import HeadModel, LandmarkMap

HEADER_KEY = "magicportrait_head"
FORMAT_VERSION = 1
OPEN_HEAD = "open_head"
ASSETS = Path(__file__).resolve().parent.parent / "assets"
SPARSE_BELOW = 0.5  # share of moved vertices under which an expression basis is stored sparsely

_FLOATS = (
    "template",
    "shape_basis",
    "skin_weights",
    "joints_template",
    "joints_shape",
    "joints_expression",
    "uvs",
)
_INDICES = ("faces", "faces_uv", "regions", "mirror", "iris")
_MAY_LACK = ("pose_correctives", "eyelid_basis")
_BASES = ("shape_basis", "expression_basis", "pose_correctives", "uvs")  # harmless in half precision


def load_head(source: str | Path = OPEN_HEAD) -> HeadModel:
    """The built-in head ("open_head"), or the head in a file: our .safetensors or FLAME's .pkl.

    Raises HeadFileError with one sentence for a file that is missing, broken or of another kind.
    """
    path = ASSETS / f"{OPEN_HEAD}.safetensors" if str(source) == OPEN_HEAD else Path(source)
    if not path.is_file():
        raise HeadFileError(f"no head file at {path}; give 'open_head', a .safetensors head or a FLAME .pkl")
    if path.suffix == ".safetensors":
        return read_head(path)
    if path.suffix in (".pkl", ".pickle"):
        return read_flame(path)
    raise HeadFileError(
        f"{path.name} is not a head file: expected .safetensors (converted head) or .pkl (FLAME 2020, 2023, "
        "2023 Open)"
    )


def save_head(
    head: HeadModel, path: str | Path, provenance: Mapping[str, str] | None = None, half: bool = False
) -> None:
    """Write `head`; `half` stores bases and uvs in float16 (errors of micrometres on a head)."""
    tensors = {name: getattr(head, name) for name in _FLOATS}
    tensors |= {name: getattr(head, name).to(torch.int32) for name in _INDICES}
    tensors["cavity"] = head.cavity
    tensors |= {name: basis for name in _MAY_LACK if (basis := getattr(head, name)) is not None}
    tensors |= _packed_expressions(head.expression_basis)
    if head.landmarks is not None:
        tensors["landmark_triangles"] = head.landmarks.triangles.to(torch.int32)
        tensors["landmark_barycentric"] = head.landmarks.barycentric
        tensors["landmark_spread"] = head.landmarks.spread
    if half:
        for name in (*_BASES, "expression_values"):
            if name in tensors:
                tensors[name] = tensors[name].half()
    info = {
        "version": FORMAT_VERSION,
        "name": head.name,
        "licence": head.licence,
        "expression_names": list(head.expression_names),
        "expression_limits": [str(limit) for limit in head.expression_limits],
        "jaw_in_expression": head.jaw_in_expression,
        "parents": list(head.parents),
        "provenance": dict(provenance or {}),
    }
    header = {HEADER_KEY: json.dumps(info, sort_keys=True)}
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, metadata=header)


def read_head(path: str | Path) -> HeadModel:
    """The head in one of our files; floats come back as float32."""
    path = Path(path)
    info, tensors = _read(path)
    try:
        floats = {name: tensors[name].float() for name in _FLOATS}
        indices = {name: tensors[name].long() for name in _INDICES}
        optional = {name: tensors[name].float() if name in tensors else None for name in _MAY_LACK}
        return HeadModel(
            name=info["name"],
            licence=info["licence"],
            expression_basis=_unpacked_expressions(tensors, floats["template"]),
            parents=tuple(info["parents"]),
            expression_names=tuple(info["expression_names"]),
            landmarks=_landmarks(tensors),
            expression_limits=tuple(float(limit) for limit in info["expression_limits"]),
            jaw_in_expression=info["jaw_in_expression"],
            cavity=tensors["cavity"].bool(),
            **floats,
            **optional,
            **indices,
        )
    except KeyError as error:
        raise HeadFileError(
            f"{path.name} lacks {error}; convert the head again with scripts/convert_head.py"
        ) from None


def head_provenance(path: str | Path) -> dict[str, str]:
    """Where the head in one of our files comes from, as its maker wrote it."""
    return _read(Path(path))[0].get("provenance", {})


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError) as error:
        raise HeadFileError(
            f"{path.name} cannot be read as safetensors ({error}); copy or convert it again"
        ) from None
    if HEADER_KEY not in header:
        raise HeadFileError(
            f"{path.name} holds no head model; convert FLAME files with scripts/convert_head.py"
        )
    info = json.loads(header[HEADER_KEY])
    if info.get("version") != FORMAT_VERSION:
        raise HeadFileError(
            f"{path.name} has head format version {info.get('version')}, this pack reads {FORMAT_VERSION}; "
            "update the pack or convert the head again"
        )
    return info, tensors


def _packed_expressions(basis: Tensor) -> dict[str, Tensor]:
    moved = (basis != 0).any(-1)  # (E, V)
    if moved.float().mean() >= SPARSE_BELOW:
        return {"expression_basis": basis}
    return {
        "expression_counts": moved.sum(1).to(torch.int32),
        "expression_vertices": moved.nonzero()[:, 1].to(torch.int32),
        "expression_values": basis[moved],
    }


def _unpacked_expressions(tensors: Mapping[str, Tensor], template: Tensor) -> Tensor:  # (E, V, 3)
    if "expression_basis" in tensors:
        return tensors["expression_basis"].float()
    counts = tensors["expression_counts"].long()
    basis = template.new_zeros(len(counts), *template.shape)
    rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
    basis[rows, tensors["expression_vertices"].long()] = tensors["expression_values"].float()
    return basis


def _landmarks(tensors: Mapping[str, Tensor]) -> LandmarkMap | None:
    if "landmark_triangles" not in tensors:
        return None
    return LandmarkMap(
        triangles=tensors["landmark_triangles"].long(),
        barycentric=tensors["landmark_barycentric"].float(),
        spread=tensors["landmark_spread"].float(),
    )
