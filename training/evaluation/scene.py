"""A pair made ready: portrait, wanted motion, truth where there is one, and the warp that all share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from magicportrait_core.alignment import StructuredFaceAlignment, align, neutral_frame
from magicportrait_core.appearance import appearance_from_portrait
from magicportrait_core.face_view import ViewedWarp, face_view
from magicportrait_core.media.image import from_levels, resize
from magicportrait_core.models.model import MagicPortraitModel
from magicportrait_core.pipeline import OnProgress, RenderedMaps, animate, decode_clip
from magicportrait_core.reference import map_size, working_size
from magicportrait_core.render_options import ReenactOptions
from magicportrait_core.tracking.track import FaceTrack
from magicportrait_core.warp.options import WarpOptions
from magicportrait_core.warp.source import prepare_warp
from magicportrait_core.warped_portrait import WarpedPortrait, record_warp
from training.evaluation.footage import Footage, OnStage, Tools, ignore, levels
from training.evaluation.motion import Request, head_masks


@dataclass(frozen=True)
class Scene:
    name: str
    portrait: Tensor  # (3, H, W) uint8
    portrait_track: FaceTrack  # 1 frame
    driver: Footage
    request: Request
    head: Tensor  # (F, 1, H, W) bool, where the head should stand
    portrait_head: Tensor  # (1, 1, H, W) bool, where it stands in the portrait
    warped: WarpedPortrait
    truth: Tensor | None  # (F, 3, H, W) uint8; of self-reenactment
    counted: tuple[int, ...]  # frames of the truth that are not the portrait itself

    @property
    def num_frames(self) -> int:
        return self.request.track.num_frames


def self_scene(
    name: str,
    clip: Footage,
    tools: Tools,
    on_stage: OnStage = ignore,
    options: WarpOptions | None = None,
    chosen: int | None = None,  # the frame that is driven; None: the most frontal, most neutral one
) -> Scene:
    """The clip drives a frame of its own, with the tracks that are the truth's."""
    if chosen is None:
        chosen = neutral_frame(clip.track[0], clip.track, absolute_rotation=True)
    portrait = clip[chosen]
    target = align(portrait.track, clip.track, follow_all(chosen)).track
    request = Request.of_truth(target, clip.track)
    counted = tuple(i for i in range(len(clip.frames)) if i != chosen)
    return _scene(name, portrait, clip, request, tools, clip.frames, counted, on_stage, options)


def follow_all(frame: int) -> StructuredFaceAlignment:
    """The alignment under which a clip's frame, driven by the clip, has the clip's own motion: in place and
    size too, and turning as tracked."""
    return StructuredFaceAlignment(mode="relative", neutral_frame=frame, carry="whole", follow_place=1.0)


def cross_scene(
    name: str, portrait: Footage, clip: Footage, tools: Tools, on_stage: OnStage = ignore
) -> Scene:
    """The portrait with the clip's motion, aligned as by default."""
    target = align(portrait.track, clip.track, head=tools.head).track
    return aligned_scene(name, portrait, clip, target, tools, on_stage)


def aligned_scene(
    name: str,
    portrait: Footage,
    clip: Footage,
    target: FaceTrack,  # as many frames as the clip, aligned to the portrait
    tools: Tools,
    on_stage: OnStage = ignore,
) -> Scene:
    """The portrait with motion that is aligned already."""
    request = Request.of_aligned(target, tools.head)
    return _scene(name, portrait, clip, request, tools, None, (), on_stage)


def _scene(
    name: str,
    portrait: Footage,
    clip: Footage,
    request: Request,
    tools: Tools,
    truth: Tensor | None,
    counted: tuple[int, ...],
    on_stage: OnStage,
    options: WarpOptions | None = None,
) -> Scene:
    on_stage("warping")
    picture = from_levels(portrait.frames[0].movedim(0, -1))
    size = tuple(picture.shape[-2:])
    source = prepare_warp(tools.head, picture, portrait.track, options)
    return Scene(
        name=name,
        portrait=portrait.frames[0],
        portrait_track=portrait.track,
        driver=clip,
        request=request,
        head=head_masks(request.track, tools.head, size),
        portrait_head=head_masks(portrait.track, tools.head, size),
        warped=record_warp(source, request.track),
        truth=truth,
        counted=counted,
    )


def network_frames(
    scene: Scene,
    model: MagicPortraitModel,
    tools: Tools,
    options: ReenactOptions,
    vae: object | None = None,  # Autoencoder, of models that work on latents
    text: Tensor | None = None,
    device: torch.device | None = None,
    on_stage: OnStage = ignore,
) -> Tensor:  # (F, 3, H, W) uint8, of the portrait's size
    """What the pipeline makes of the scene, as users get it but for the size of released models' pictures,
    which is brought to the portrait's."""
    latents = network_latents(scene, model, tools, options, vae, text, device, on_stage)
    told = {"device": device, "on_progress": _told(on_stage)}
    size = tuple(scene.portrait.shape[-2:])
    if model.config.prior is None:
        frames = decode_clip(latents, model, vae, size, **told)
    else:
        warped = _viewed(scene, tools)
        frames = warped.paste(decode_clip(latents, model, vae, warped=warped, **told))
    return torch.stack([levels(resize(frame, size)) for frame in frames])


def network_latents(
    scene: Scene,
    model: MagicPortraitModel,
    tools: Tools,
    options: ReenactOptions,
    vae: object | None = None,
    text: Tensor | None = None,
    device: torch.device | None = None,
    on_stage: OnStage = ignore,
) -> Tensor:  # (C, F, h, w)
    """What the networks make of the scene; small ones look at the face alone, as in pipeline.reenact."""
    still, track, warped = from_levels(scene.portrait.movedim(0, -1)), scene.request.track, None
    appearance = appearance_from_portrait(tools.head, scene.portrait_track, still)
    if model.config.prior is not None:
        warped = _viewed(scene, tools)
        track, still = warped.view.cut_track(track), warped.view.cut(still)
    elif model.config.reads_warp:
        warped = scene.warped
    seen = tuple(still.shape[-2:])
    maps = RenderedMaps(
        tools.head,
        track,
        appearance,
        map_size(seen, working_size(seen, model.config, options.shorter_side)),
    )
    return animate(
        still,
        maps,
        model,
        vae,
        text,
        options,
        warped=warped,
        device=device,
        on_progress=_told(on_stage),
    )


def _viewed(scene: Scene, tools: Tools) -> ViewedWarp:
    return ViewedWarp(scene.warped, face_view(tools.head, scene.request.track))


def _told(on_stage: OnStage) -> OnProgress:
    return lambda stage, done, total: on_stage(f"network: {stage} {done} of {total}")
