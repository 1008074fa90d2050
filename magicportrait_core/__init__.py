"""Portrait reenactment guided by a 3D head model, without ComfyUI: what others may use.

Names are looked up on first use, so that importing the package costs nothing.
"""

from importlib import import_module

_HOMES = {
    "load_head": "head.assets",
    "HeadModel": "head.model",
    "load_landmarker": "tracking.landmarker",
    "FaceChoice": "tracking.following",
    "FaceTrack": "tracking.track",
    "TrackingOptions": "tracking.tracker",
    "track_face": "tracking.tracker",
    "track_portrait": "tracking.tracker",
    "load_released_tracker": "tracking.released_files",
    "ReleasedOptions": "tracking.released_tracker",
    "track_released": "tracking.released_tracker",
    "track_portrait_released": "tracking.released_tracker",
    "save_track": "tracking.track_file",
    "load_track": "tracking.track_file",
    "StructuredFaceAlignment": "alignment",
    "align_track": "alignment",
    "appearance_from_portrait": "appearance",
    "released_appearance": "head_appearance",
    "render_guidance": "guidance",
    "GuidanceMaps": "guidance",
    "WarpOptions": "warp.options",
    "prepare_warp": "warp.source",
    "warp_clip": "warp.clip",
    "WarpedPortrait": "warped_portrait",
    "record_warp": "warped_portrait",
    "built_in_model": "built_in",
    "load_model": "checkpoints.loading",
    "load_vae": "autoencoder",
    "PixelUnshuffle": "pixel_unshuffle",
    "embed_prompt": "text",
    "ReenactOptions": "render_options",
    "Reenactment": "pipeline",
    "preview": "pipeline",
    "reenact": "pipeline",
    "animate": "pipeline",
    "decode_clip": "pipeline",
    "encode_motion": "motion_features",
    "MotionFeatures": "motion_features",
    "load_image": "media.image",
    "open_video": "media.video",
    "write_video": "media.video_writing",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
