"""Draws the open head from all sides: identities and expressions in one contact sheet, docs/open_head.png.

python -m scripts.picture_open_head [--head open_head] [--output docs/open_head.png] [--tile 230]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from magicportrait_core.head.assets import OPEN_HEAD, load_head
from magicportrait_core.head.colours import part_colours
from magicportrait_core.head.model import HeadModel
from magicportrait_core.head.skinning import axis_angle_to_matrix, vertex_normals
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.rendering.rasterizer import rasterize

Row = list[tuple[str, Tensor, float]]  # label, vertices (1, V, 3), yaw in degrees

OVERSAMPLING = 3
BACKGROUND = (0.93, 0.94, 0.95)
LIGHTS = (((0.45, 0.5, 0.74), 0.62), ((-0.75, 0.1, 0.45), 0.22), ((0.1, 0.2, -0.97), 0.25))
SKY, GROUND = 0.42, 0.18  # ambient light from above and below
EXPRESSIONS = (  # a name without a side stands for both sides
    ("smile", dict(mouthSmile=0.9, cheekSquint=0.5)),
    ("laugh", dict(mouthSmile=1, jawOpen=0.4, mouthUpperUp=0.5)),
    ("jaw open", dict(jawOpen=0.9)),
    ("blink", dict(eyeBlink=1)),
    ("pucker", dict(mouthPucker=0.9)),
    ("surprise", dict(browInnerUp=1, browOuterUp=1, eyeWide=1, jawOpen=0.3)),
    ("anger", dict(browDown=1, noseSneer=0.8, mouthFrown=0.6)),
    ("sad", dict(browInnerUp=0.9, mouthFrown=0.8, mouthShrugLower=0.5)),
    ("cheeks", dict(cheekPuff=0.9)),
    ("look aside", dict(eyeLookOutLeft=0.8, eyeLookInRight=0.8)),
    ("tongue", dict(jawOpen=0.5, tongueOut=0.9)),
    ("wink", dict(eyeBlinkLeft=1, mouthSmileLeft=0.7)),
)
VIEWS = (
    ("front", 0.0),
    ("left 45", 45.0),
    ("profile", 90.0),
    ("back 135", 135.0),
    ("back", 180.0),
    ("right 45", -45.0),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--head", default=OPEN_HEAD, help="open_head or a head file")
    options.add_argument("--output", type=Path, default=Path("docs/open_head.png"))
    options.add_argument("--tile", type=int, default=200, help="pixels of one picture")
    arguments = options.parse_args()
    head = load_head(arguments.head)
    rows = [views(head), *identities(head, seed=4)]
    if head.jaw_in_expression:
        rows += expressions(head)
    rows.append(turns(head))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet(head, rows, arguments.tile).save(arguments.output, optimize=True)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


def views(head: HeadModel) -> Row:
    neutral = head.vertices(torch.zeros(1, 1), torch.zeros(1, 1))
    return [(f"mean, {label}", neutral, yaw) for label, yaw in VIEWS]


def identities(head: HeadModel, seed: int, spread: float = 0.9) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)
    people = [
        head.vertices(
            spread * torch.randn(1, min(head.num_shape, 100), generator=generator), torch.zeros(1, 1)
        )
        for _ in range(len(VIEWS))
    ]
    front = [(f"person {i + 1}", person, 0.0) for i, person in enumerate(people)]
    side = [(f"person {i + 1}", person, 55.0) for i, person in enumerate(people)]
    return [front, side]


def expressions(head: HeadModel) -> list[Row]:
    tiles = [
        (label, head.vertices(torch.zeros(1, 1), face(head, values)), 20.0 if i % 2 else -20.0)
        for i, (label, values) in enumerate(EXPRESSIONS)
    ]
    width = len(VIEWS)
    return [tiles[i : i + width] for i in range(0, len(tiles), width)]


def face(head: HeadModel, values: dict[str, float]) -> Tensor:  # (1, E)
    sided = {}
    for name, value in values.items():
        both = {f"{name}Left", f"{name}Right"} & set(head.expression_names)
        sided |= dict.fromkeys(both or {name}, value)
    return head.expressions(**sided)


def turns(head: HeadModel) -> Row:
    poses = (
        ("neck turned 45", (0.0, math.radians(45), 0.0), 0.0),
        ("neck turned 45", (0.0, math.radians(45), 0.0), 90.0),
        ("nod down 25", (math.radians(25), 0.0, 0.0), 60.0),
        ("nod up 25", (math.radians(-25), 0.0, 0.0), 60.0),
        ("tilt 20", (0.0, 0.0, math.radians(20)), 0.0),
        ("jaw joint 15", None, 30.0),
    )
    row = []
    for label, neck, yaw in poses:
        pose = torch.zeros(1, 5, 3)
        if neck is None:
            pose[0, 2, 0] = math.radians(15)
        else:
            pose[0, 1] = torch.tensor(neck)
        row.append((label, head.vertices(torch.zeros(1, 1), torch.zeros(1, 1), pose), yaw))
    return row


def sheet(head: HeadModel, rows: list[Row], tile: int) -> Image.Image:
    page = Image.new("RGB", (tile * max(map(len, rows)), tile * len(rows)))
    draw = ImageDraw.Draw(page)
    for j, row in enumerate(rows):
        for i, (label, vertices, yaw) in enumerate(row):
            page.paste(portrait(head, vertices, yaw, tile), (i * tile, j * tile))
            draw.text((i * tile + 5, j * tile + 3), label, fill=(90, 95, 105))
    return page.quantize(160, dither=Image.Dither.NONE)


def portrait(
    head: HeadModel, vertices: Tensor, yaw: float, size: int, zoom: float = 1.0, lift: float = 0.0
) -> Image.Image:
    """A shaded picture of the head seen after turning it by `yaw` degrees, framed by its eyes' distance."""
    eyes = head.joints_template[3:5]
    unit = (eyes[0] - eyes[1]).norm().item()
    centre = eyes.mean(0) + unit * eyes.new_tensor([0.0, -0.6 + lift, -1.4])
    side = size * OVERSAMPLING
    turn = axis_angle_to_matrix(eyes.new_tensor([0.0, math.radians(yaw), 0.0]))
    shift = -turn @ centre - eyes.new_tensor([0.0, 0.0, 20 * unit])
    camera = Camera(
        view=torch.cat((turn, shift[:, None]), 1)[None],
        intrinsics=eyes.new_tensor([[3.55 * zoom * side, side / 2, side / 2]]),
        size=(side, side),
    )
    fragments = rasterize(camera.project(vertices), head.faces, camera.size)
    normals = vertex_normals(camera.to_camera(vertices), head.faces)
    normal = torch.nn.functional.normalize(fragments.interpolate(normals, head.faces)[0], dim=-1)
    covered = fragments.covered[0]
    colour = part_colours(head)[fragments.triangle[0][covered]]
    picture = normal.new_tensor(BACKGROUND).expand(side, side, 3).clone()
    picture[covered] = (colour * _light(normal[covered])[:, None]).clamp(0, 1)
    small = torch.nn.functional.avg_pool2d(picture.permute(2, 0, 1), OVERSAMPLING).permute(1, 2, 0)
    return Image.fromarray((small.numpy() * 255 + 0.5).astype(np.uint8))


def _light(normal: Tensor) -> Tensor:  # (P, 3) -> (P,)
    light = GROUND + (SKY - GROUND) * (normal[:, 1] + 1) / 2
    for direction, strength in LIGHTS:
        light = light + strength * (normal @ normal.new_tensor(direction)).clamp(min=0)
    return light


if __name__ == "__main__":
    main()
