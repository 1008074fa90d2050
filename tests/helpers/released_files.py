"""Stand-ins for the licensed files of the released guidance: true names and shapes, nobody's data.

    files = write_released_files(folder)              # 4 s, 250 MB
    tracker = load_released_tracker(**files.arguments())

The head has FLAME's 5023 vertices and 9976 triangles and looks like the built-in open head (CC0); its first
expressions and shapes are that head's. DECA's encoder has its true size and random weights, but its last
layer is weak, so that it says "a face in the middle, looking at you", with a little of the picture in it;
so is SMIRK's. Shorter than published: the texture has 50 components instead of 200, the weights that nobody
reads are a few numbers each. Not to be had here, so not tested: the published files themselves.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import ConvexHull
from torch import Tensor, nn

from magicportrait_core.head.assets import load_head
from magicportrait_core.head.model import HeadModel
from magicportrait_core.head.uv_files import cylindrical_uvs
from magicportrait_core.tracking.deca import DecaEncoder
from magicportrait_core.tracking.mobilenet_v3 import LARGE_FEATURES, MobileNetV3
from magicportrait_core.tracking.smirk import SmirkExpressionEncoder

VERTICES, TRIANGLES = 5023, 9976
CENTRE = (0.0, 0.70, 0.03)  # of the open head, metres; FLAME's origin lies inside the head
SCALE_SHIFT = (8.0, 0.0, 0.02)  # DECA's camera for a face that fills its crop
AMBIENT, FRONTAL = 2.6, 0.4  # of nine light terms, the first and the third
SKIN = (140.0, 165.0, 205.0)  # BGR
SAID = 0.2  # spread of what the encoders add to that
SMALL_STAGES = (  # of tf_mobilenetv3_small_minimal_100, SMIRK's pose encoder
    ((2, 16, 16),),
    ((2, 72, 24), (1, 88, 24)),
    ((2, 96, 40), (1, 240, 40), (1, 240, 40)),
    ((1, 120, 48), (1, 144, 48)),
    ((2, 288, 96), (1, 576, 96), (1, 576, 96)),
)
SMALL_FEATURES = 576


@dataclass(frozen=True)
class ReleasedFiles:
    flame: Path
    template_obj: Path
    texture: Path
    deca: Path
    smirk: Path

    def arguments(self) -> dict[str, Path]:
        """As load_released_tracker calls them."""
        return vars(self).copy()


def write_released_files(folder: Path) -> ReleasedFiles:
    """All files, under their published names, in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    flame, template_obj = write_flame(folder)
    return ReleasedFiles(flame, template_obj, write_texture(folder), write_deca(folder), write_smirk(folder))


def write_flame(folder: Path) -> tuple[Path, Path]:
    """generic_model.pkl and head_template.obj, and SMIRK's l_eyelid.npy and r_eyelid.npy beside them."""
    head = load_head()
    template, faces, nearest = _resampled(head)
    basis = torch.zeros(VERTICES, 3, 400)
    basis[..., :100] = head.shape_basis[:, nearest].permute(1, 2, 0)
    basis[..., 300 : 300 + head.num_expression] = head.expression_basis[:, nearest].permute(1, 2, 0)
    joints = head.joints_template - torch.tensor(CENTRE)
    regressor = _with_one(joints) @ torch.linalg.pinv(_with_one(template))
    table = {
        "v_template": template,
        "f": faces,
        "shapedirs": basis,
        "posedirs": 0.001 * torch.randn(VERTICES, 3, 36, generator=torch.Generator().manual_seed(1)),
        "J_regressor": regressor,
        "weights": head.skin_weights[nearest],
    }
    table = {name: value.numpy() for name, value in table.items()}
    table["f"] = table["f"].astype(np.uint32)
    table["kintree_table"] = np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], np.uint32)
    table |= {"J": joints.numpy(), "bs_style": "lbs", "bs_type": "lrotmin"}
    (folder / "generic_model.pkl").write_bytes(pickle.dumps(table, protocol=2))
    for name, shape in (("l_eyelid.npy", "eyeBlinkLeft"), ("r_eyelid.npy", "eyeBlinkRight")):
        np.save(folder / name, head.expression_basis[head.expression_index(shape)][nearest].numpy())
    return folder / "generic_model.pkl", _write_obj(folder / "head_template.obj", template, faces)


def write_texture(folder: Path) -> Path:
    """FLAME_texture.npz: a skin, and 50 waves across it."""
    along = np.cos(np.linspace(0, np.pi, 512, dtype=np.float32)[:, None] * np.arange(50))  # (512, 50)
    waves = (along[:, None] * along[None, :, ::-1])[:, :, None].astype(np.float16)
    mean = np.broadcast_to(np.array(SKIN, np.float32), (512, 512, 3))
    path = folder / "FLAME_texture.npz"
    np.savez(path, mean=mean, tex_dir=np.broadcast_to(4 * waves, (512, 512, 3, 50)))
    return path


def write_deca(folder: Path) -> Path:
    """deca_model.tar: E_flame whole, a sign of the other parts."""
    torch.manual_seed(0)
    encoder = _calm(DecaEncoder())
    said = torch.zeros(236)
    said[206:209] = torch.tensor(SCALE_SHIFT)
    said[209:236].view(9, 3)[[0, 3]] = torch.tensor([AMBIENT, FRONTAL])[:, None]
    weight = torch.ones(236)
    weight[206:209] = 0.2  # the face stays in the picture
    _say(encoder.layers[2], encoder.layers[:2], encoder.encoder, said, weight)
    part = {"layers.0.weight": torch.zeros(2, 2)}
    return _saved(
        {"E_flame": encoder.state_dict(), "E_detail": part, "D_detail": part}, folder / "deca_model.tar"
    )


def write_smirk(folder: Path) -> Path:
    """SMIRK_em1.pt: all 762 tensors of the encoder, a sign of the generator."""
    torch.manual_seed(0)
    expression = _calm(SmirkExpressionEncoder())
    _say(
        expression.expression_layers[0],
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        expression.encoder,
        torch.zeros(55),
        torch.ones(55),
    )
    weights = _named("expression_encoder", expression)
    weights |= _named("shape_encoder.encoder", MobileNetV3())
    weights |= _named("shape_encoder.shape_layers.0", nn.Linear(LARGE_FEATURES, 300))
    weights |= _named("pose_encoder.encoder", MobileNetV3(SMALL_STAGES, SMALL_FEATURES))
    weights |= _named("pose_encoder.pose_cam_layers.0", nn.Linear(SMALL_FEATURES, 6))
    weights = {f"smirk_encoder.{name}": value for name, value in weights.items()}
    assert len(weights) == 762
    return _saved(weights | {"smirk_generator.final.weight": torch.zeros(3)}, folder / "SMIRK_em1.pt")


def _resampled(head: HeadModel) -> tuple[Tensor, Tensor, Tensor]:
    """A star-shaped copy with FLAME's number of vertices and triangles: vertices (V, 3), triangles (T, 3),
    the open head's vertex (V,) behind each."""
    outer = torch.unique(head.faces[(head.regions == 0) & ~head.cavity])
    points = head.template[outer] - torch.tensor(CENTRE)
    number = torch.arange(VERTICES) + 0.5
    z, angle = 1 - 2 * number / VERTICES, number * 2.399963229728653  # golden angle
    ring = (1 - z * z).sqrt()
    directions = torch.stack((ring * angle.cos(), z, ring * angle.sin()), 1)
    nearest = (directions @ torch.nn.functional.normalize(points, dim=1).T).argmax(1)
    template = directions * points[nearest].norm(dim=1, keepdim=True)
    faces = torch.from_numpy(ConvexHull(directions.double().numpy()).simplices).long()
    corner = directions[faces]
    inward = (torch.linalg.cross(corner[:, 1], corner[:, 2]) * corner[:, 0]).sum(1) < 0
    faces[inward] = faces[inward].flip(1)
    kept = directions[faces].mean(1)[:, 1].argsort(descending=True)[:TRIANGLES]  # open at the neck, as FLAME
    return template, faces[kept.sort().values], outer[nearest]


def _with_one(points: Tensor) -> Tensor:
    return torch.cat((points, torch.ones(len(points), 1)), 1)


def _write_obj(path: Path, template: Tensor, faces: Tensor) -> Path:
    uvs, faces_uv = cylindrical_uvs(template, faces)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in template.tolist()]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in uvs.tolist()]
    pairs = zip((faces + 1).tolist(), (faces_uv + 1).tolist(), strict=True)
    lines += ["f " + " ".join(f"{v}/{t}" for v, t in zip(*pair, strict=True)) for pair in pairs]
    path.write_text("\n".join(lines) + "\n")
    return path


def _calm(network: nn.Module) -> nn.Module:
    """Weights that let a picture through many layers, and norms with all their parts at work."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.0)
            module.bias.data.normal_(0, 0.05)
            module.running_mean.normal_(0, 0.05)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@torch.no_grad()
def _say(last: nn.Linear, before: nn.Module, encoder: nn.Module, said: Tensor, spread: Tensor) -> None:
    """Makes the last layer say `said`, and how a picture differs from grey with a spread of about SAID."""
    grey, noise = (
        before(encoder(p))[0] for p in (torch.full((1, 3, 224, 224), 0.5), torch.rand(1, 3, 224, 224))
    )
    last.weight.copy_(torch.randn_like(last.weight) * spread[:, None] * SAID / (noise - grey).norm())
    last.bias.copy_(said - last.weight @ grey)


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def _saved(content: dict, path: Path) -> Path:
    torch.save(content, path)
    return path
