"""The licensed files of the released guidance, read together and checked against one another."""

from __future__ import annotations

from pathlib import Path

import torch

from ..head.files import HeadFileError
from ..head.flame_files import TEMPLATE_OBJ, read_flame
from ..head.model import HeadModel
from ..head.texture_space import read_texture_space
from .encoder_files import load_deca, load_smirk
from .landmarker import Landmarker, load_landmarker
from .released_tracker import ReleasedTracker, check_flame_2020


def load_released_tracker(
    flame: str | Path,  # generic_model.pkl of FLAME 2020
    deca: str | Path,  # deca_model.tar
    smirk: str | Path,  # SMIRK_em1.pt
    texture: str | Path | None = None,  # FLAME_texture.npz; without it there is no skin to render
    template_obj: str | Path | None = None,  # DECA's head_template.obj; None: beside `flame`
    eyelids: bool = False,  # SMIRK's lids, from l_eyelid.npy and r_eyelid.npy beside `flame`; released: none
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,  # of the two encoders
    landmarker: Landmarker | None = None,  # None: the built-in one, on `device`
) -> ReleasedTracker:
    """Everything `track_released` needs, on `device`.

    Raises FileNotFoundError or ValueError with one sentence for the first file that is missing, damaged, or
    does not belong to the others. Nothing in a pickle is run.
    """
    return ReleasedTracker(
        head=load_flame_2020(flame, template_obj, eyelids, needs_uvs=texture is not None).to(device),
        deca=load_deca(deca, device, dtype),
        smirk=load_smirk(smirk, device, dtype),
        landmarker=landmarker or load_landmarker(device),
        texture=None if texture is None else read_texture_space(texture),
    )


def load_flame_2020(
    flame: str | Path,
    template_obj: str | Path | None = None,
    eyelids: bool = False,
    needs_uvs: bool = True,  # FLAME's texture lies in the coordinates of head_template.obj only
) -> HeadModel:
    """The one head that DECA's and SMIRK's coefficients fit; HeadFileError for every other."""
    flame = Path(flame)
    obj = Path(template_obj) if template_obj else flame.parent / TEMPLATE_OBJ
    head = read_flame(flame, obj if obj.is_file() else None, eyelids)
    check_flame_2020(head, flame.name)
    if (needs_uvs or template_obj) and not obj.is_file():
        raise HeadFileError(
            f"FLAME's texture needs {TEMPLATE_OBJ} (from DECA's data folder on github.com/yfeng95/DECA), but "
            f"it is not at {obj}; put it there, or leave the texture out"
        )
    return head
