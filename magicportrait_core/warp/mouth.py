"""Inside of the mouth: the photo's own teeth, which stay with the skull, else a mouth in the face's light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..head.model import LOWER_TEETH, TONGUE, UPPER_TEETH
from .anatomy import LIPS_MIDDLE, MOUTH_CLASS
from .field import Window, plane_flow, window_around
from .fill import blur, dilated, pixel_centres, pull_push, ramp, resize, smoothstep
from .layers import Canvas, Layer, sample_photo
from .motion import SkullMotion
from .openings import Opening, keep_out
from .scene import Scene
from .source import WarpSource
from .sources import MOUTH
from .surface import VisibleSurface

ROOM = 0.10  # face widths around the lips
SLIT = 0.02  # face widths between the lips of a mouth that still looks shut
SHARE = (0.4, 0.7)  # of an opening in its surroundings of that size: a slit, an opening
LINE = 0.75  # light between shut lips, of that on them
EDGE = 0.8  # pixels of softness between lip and mouth
TEETH_BEHIND_LIPS = 0.006  # metres
STRETCH = (0.01, 0.035)  # face widths by which the photo's own teeth may be stretched: all, none
SHOWS_TEETH = (0.015, 0.04)  # face widths between the photo's lips: shut, showing teeth
COLOURFUL = (0.01, 0.06)  # range of the skin's channels in a black-and-white, in a colour photo
SHADOW = 0.40  # light that is left deep in the mouth
SHADOW_DEPTH = 0.030  # metres behind the lips at which light falls to 1/e
TOOTH, TONGUE_TINT = (0.98, 0.93, 0.84), (0.80, 0.46, 0.43)
GUM, CAVITY = (0.78, 0.46, 0.43), (0.36, 0.15, 0.14)
BACK_TEETH = (0.018, 0.034)  # metres behind the lips: front teeth, and those that the cheeks' shadow hides
GUM_DEPTH = (0.004, 0.030)  # metres behind the lips: inner lips and gums, then the dark of the mouth
TEETH_LIT = 0.9  # light on teeth that look aside; they are wet and shine from everywhere
TEETH_MATCH = 0.35  # how much of the face's own brightness and tint the teeth take


@dataclass(frozen=True)
class MouthLight:
    """Brightness and tint of the portrait's face, [0, 1]."""

    skin: Tensor  # (3,)
    colourful: float  # 0 for a black-and-white photo .. 1

    @staticmethod
    def of(source: WarpSource) -> MouthLight:
        skin = ((source.skin + 1) / 2).clamp(0.02, 1)
        return MouthLight(skin, ramp(*COLOURFUL, float(skin.max() - skin.min())))

    def seen(self, colour: Tensor) -> Tensor:
        """The colour as this photo shows colours."""
        return torch.lerp(colour.mean().expand(3), colour, self.colourful)

    def teeth(self) -> Tensor:
        white = self.skin.max() * 1.12
        tint = self.skin / self.skin.max()
        tooth = white * (1 - TEETH_MATCH + TEETH_MATCH * tint) * tint.new_tensor(TOOTH)
        return self.seen(tooth.clamp(max=0.96))

    def tongue(self) -> Tensor:
        return self.seen(self.skin.mean().sqrt() * self.skin.sqrt() * self.skin.new_tensor(TONGUE_TINT))

    def cavity(self) -> Tensor:
        return self.seen(self.skin.mean().sqrt() * self.skin.new_tensor(CAVITY))

    def gum(self) -> Tensor:
        return self.seen(self.skin.mean().sqrt() * self.skin.sqrt() * self.skin.new_tensor(GUM))


def mouth_layer(scene: Scene, opening: Opening, canvas: Canvas) -> Layer | None:
    """Everything between the lips; None when the mouth is closed. A slit is a line between the lips."""
    source, surface, near = scene.source, scene.surface, scene.near
    chosen = (source.anatomy.classes[surface.triangle] == MOUTH_CLASS).nonzero().squeeze(1)
    if len(chosen) < 4:
        return None
    box = window_around(opening.contour, ROOM * source.face_width, source.camera.size)
    place = box.inside(near)
    inside = surface.select(chosen)
    lips = float(scene.head.marks[list(LIPS_MIDDLE), 2].mean())
    colour = _shade(source, inside, scene.head.normals, lips)
    shaded = place.of(inside.picture(torch.cat((colour, torch.ones_like(colour[:, :1])), dim=1)))
    colour, covered = shaded[:3], shaded[3:]
    colour = pull_push(colour[None], covered[None])
    colour = blur(colour, 0.006 * source.face_width)[0]
    lip = pull_push(canvas.work(box.inside(scene.window))[None], 1 - dilated(covered, 1)[None])[0]
    colour = torch.lerp((lip + 1) * LINE - 1, colour, _wide(covered, SLIT * source.face_width))
    own, known = _own_teeth(source, opening, scene.head.skull, box)
    size = tuple(own.shape[-2:])
    colour = resize(colour[None], source.scale, size)[0]
    colour = torch.lerp(colour, own, resize(known[None], source.scale, size)[0])
    alpha = blur(covered[None], EDGE)[0]
    return Layer(box.inside(scene.window), colour, alpha, MOUTH, 1 - known)


def _wide(covered: Tensor, height: float) -> Tensor:  # (1, h, w) 0..1
    """Where an opening is higher than `height` pixels, softly."""
    inside = smoothstep(*SHARE, blur(covered[None], height / 2)[0])
    return dilated(inside, max(1, round(height / 2)))


def _shade(source: WarpSource, inside: VisibleSurface, normals: Tensor, lips: float) -> Tensor:  # (P, 3)
    """Teeth, tongue and cavity in the portrait's light, darker towards the throat."""
    light = MouthLight.of(source)
    region = source.head.regions[inside.triangle]
    depth = (inside.depth - lips).clamp(0, 0.08)
    colour = torch.lerp(light.gum(), light.cavity(), smoothstep(*GUM_DEPTH, depth)[:, None])
    colour[region == TONGUE] = light.tongue()
    teeth = ((region == UPPER_TEETH) | (region == LOWER_TEETH)) & ~source.head.cavity[inside.triangle]
    colour[teeth] = torch.lerp(light.teeth(), light.cavity(), smoothstep(*BACK_TEETH, depth)[teeth, None])
    facing = inside.at_pixels(normals)
    towards = facing[:, 2].abs() / facing.norm(dim=-1).clamp(min=1e-6)
    shadow = SHADOW + (1 - SHADOW) * torch.exp(-depth / SHADOW_DEPTH)
    shadow = torch.where(teeth | (region == TONGUE), shadow.sqrt(), shadow)  # moist, and before the dark
    lit = torch.where(teeth, TEETH_LIT + (1 - TEETH_LIT) * towards, 0.65 + 0.35 * towards)
    return (colour * (lit * shadow)[:, None]).clamp(0, 1) * 2 - 1


def _own_teeth(
    source: WarpSource, opening: Opening, motion: SkullMotion, box: Window
) -> tuple[Tensor, Tensor]:
    """What the photo shows between its lips, moved with the skull, and where it is known (1, h, w)."""
    lips = source.head.landmark_points(source.vertices[None])[0, list(LIPS_MIDDLE)].mean(0)
    lips = lips - lips.new_tensor([0.0, 0.0, TEETH_BEHIND_LIPS])
    corner = lips.new_tensor([box.left, box.top])[:, None, None]
    pixels = pixel_centres(box.size, source.work) + corner
    flow = plane_flow(source, motion, pixels, -float(lips[2]), lips)
    flat = (pixels + flow).reshape(2, -1).T
    kept = keep_out(source, flat, opening, inside=True)
    stretched = (kept - flat).norm(dim=-1) / source.face_width
    shut = 1 - ramp(*SHOWS_TEETH, _height(source) / source.face_width)
    known = (1 - smoothstep(*STRETCH, stretched + shut * STRETCH[1])).reshape(1, *box.size)
    known = torch.maximum(known, torch.full_like(known, 1 - opening.change))
    flow = kept.T.reshape(2, *box.size) - pixels
    return sample_photo(source, box, flow), known


def _height(source: WarpSource) -> float:
    """Work pixels between the middle of the photo's lips."""
    upper, lower = LIPS_MIDDLE
    return float((source.landmarks[lower] - source.landmarks[upper]).norm())
