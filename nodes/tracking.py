"""Track Driving Video: a clip in, the motion of one person's head out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import Input, io
from torch import Tensor

from . import host
from .common_inputs import FaceRequest, face_inputs
from .sockets import FaceLandmarksSocket, FaceTrackSocket, HeadTracker, HeadTrackerSocket

if TYPE_CHECKING:
    from ..magicportrait_core.tracking.smoothing import SmoothingOptions
    from ..magicportrait_core.tracking.track import FaceTrack
    from ..magicportrait_core.tracking.tracker import TrackingOptions, TrackingResult
    from .driving import DrivingClip

LOOKED_AT, FITTED = 0.8, 0.9  # shares of the progress bar

MISSING = ("interpolate", "hold", "raise")
AUTOMATIC = -1.0
SMOOTHING = {
    "smooth_head": "Less jitter of head rotation and place; no lag is added. 0 is raw, 1 strong. -1 is what "
    "suits the tracker: 0.5 for landmarks, raw for DECA + SMIRK, as the released system.",
    "smooth_expression": "Less jitter of face, jaw and lids; blinks are kept. 0 is raw, 1 strong. -1 is what "
    "suits the tracker: 0.5 for landmarks, raw for DECA + SMIRK, as the released system.",
    "smooth_gaze": "Less jitter of the eyes; high values make the gaze swim. 0 is raw, 1 strong. -1 is what "
    "suits the tracker: 0.25 for landmarks, raw for DECA + SMIRK.",
}


class TrackVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MagicPortraitTrackVideo",
            display_name="Track Driving Video",
            category="MagicPortrait/tracking",
            description="Follows one face through a clip and fits the 3D head to every frame. Videos are "
            "read frame by frame, so their length does not matter for memory.",
            search_aliases=[
                "face tracking",
                "liveportrait",
                "motion capture",
                "driving video",
                "talking head",
                "flame fitting",
                "facial performance",
                "expression transfer",
                "face reenactment",
                "head pose",
            ],
            inputs=[
                HeadTrackerSocket.Input("head_tracker", tooltip="From Load FLAME Tracker."),
                io.MultiType.Input(
                    "video",
                    types=[io.Video, io.Image],
                    lazy=True,  # the host then begins with the portrait, which is looked at in less time
                    tooltip="The clip whose motion is wanted: a VIDEO (read frame by frame, good for long "
                    "clips) or a batch of IMAGEs.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames per second. VIDEO: 0 keeps its own rate, another value resamples the "
                    "motion to that rate. IMAGE batch: the rate of the pictures, 0 means 25.",
                ),
                io.Int.Input(
                    "start_frame",
                    default=0,
                    min=0,
                    max=10_000_000,
                    tooltip="First frame to use, counted from 0 in the clip that is connected.",
                ),
                io.Int.Input(
                    "frame_limit",
                    default=0,
                    min=0,
                    max=10_000_000,
                    tooltip="At most this many frames of the clip are used. 0 is all.",
                ),
                *face_inputs("driving video"),
                io.Combo.Input(
                    "missing_face",
                    options=list(MISSING),
                    default=MISSING[0],
                    tooltip="Frames in which the face is not seen: 'interpolate' moves evenly across the "
                    "gap, 'hold' keeps the last pose, 'raise' stops and names the frames. The length never "
                    "changes.",
                ),
                *(
                    io.Float.Input(name, default=AUTOMATIC, min=AUTOMATIC, max=1.0, step=0.05, tooltip=text)
                    for name, text in SMOOTHING.items()
                ),
                io.Int.Input(
                    "overlay_size",
                    default=384,
                    min=64,
                    max=4096,
                    step=16,
                    advanced=True,
                    tooltip="Longer side of the overlay pictures in pixels; keeps their memory small.",
                ),
                io.Int.Input(
                    "overlay_frames",
                    default=0,
                    min=0,
                    max=1_000_000,
                    advanced=True,
                    tooltip="At most this many overlay pictures, evenly spread over the clip. 0 is one per "
                    "frame.",
                ),
                FaceLandmarksSocket.Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="Landmarks of the same frames from Detect Face Landmarks (MediaPipe), used "
                    "instead of our own detector.",
                ),
            ],
            outputs=[
                FaceTrackSocket.Output("track", tooltip="Pose, expression and camera of every frame."),
                io.Image.Output(
                    "overlay", tooltip="The fitted head over the frames; red borders: face not found."
                ),
                io.Float.Output("fps", tooltip="Frames per second of the track, for Create Video."),
                io.Audio.Output("audio", tooltip="The video's sound, cut to the frames that were used."),
                FaceLandmarksSocket.Output(
                    "landmarks", tooltip="What was seen, for the host's face mesh nodes."
                ),
                io.String.Output("report", tooltip="Frames, quality, and where the face was missing."),
            ],
        )

    @classmethod
    def check_lazy_status(cls, video: Tensor | Input.Video | None = None, **others) -> list[str]:
        return ["video"] if video is None else []

    @classmethod
    def execute(
        cls,
        head_tracker: HeadTracker,
        video: Tensor | Input.Video,
        fps: float = 0.0,
        start_frame: int = 0,
        frame_limit: int = 0,
        missing_face: str = MISSING[0],
        smooth_head: float = AUTOMATIC,
        smooth_expression: float = AUTOMATIC,
        smooth_gaze: float = AUTOMATIC,
        overlay_size: int = 384,
        overlay_frames: int = 0,
        face_landmarks: dict | None = None,
        **face,
    ) -> io.NodeOutput:
        from ..magicportrait_core.tracking.interop import to_face_landmarks
        from ..magicportrait_core.tracking.tracker import TrackingOptions
        from .driving import count_frames, open_clip
        from .sound import clip_sound

        request = FaceRequest(**face)
        smoothing = smoothing_of(head_tracker, smooth_head, smooth_expression, smooth_gaze)
        options = TrackingOptions(missing=missing_face, smoothing=smoothing)
        bar = host.Progress()
        with host.ordinary_tensors():
            open_driving = partial(open_clip, video, fps, start_frame, frame_limit, overlay_size)
            clip = open_driving()
            if head_tracker.released is None:
                result = track_clip(clip, head_tracker, request, options, face_landmarks, bar)
            else:
                # Landmarks are chosen before a frame is encoded, so their frames have to be counted first.
                count = 0 if face_landmarks is None else count_frames(open_driving())
                result = encode_clip(clip, head_tracker, request, options, face_landmarks, count, bar)
            track = in_time(result.track, clip, fps)
            overlay = draw_overlay(clip, head_tracker, track, overlay_frames, bar)
            landmarks = to_face_landmarks(result.observations, head_tracker.landmarker.canonical)
            report = result.report + pace_note(clip, track)
            sound = clip_sound(video, clip.begin, track.num_frames / track.fps)
        return io.NodeOutput(
            head_tracker.with_head(track),
            overlay,
            float(track.fps),
            sound,
            landmarks,
            report,
            ui=host.show_text(report),
        )


def track_clip(
    clip: DrivingClip,
    tracker: HeadTracker,
    request: FaceRequest,
    options: TrackingOptions,
    face_landmarks: dict | None,
    bar: host.Progress,
) -> TrackingResult:
    """The chosen face in every frame of the clip that was read, and its head."""
    from ..magicportrait_core.tracking.interop import from_face_landmarks
    from ..magicportrait_core.tracking.tracker import track_face_with_report, track_observations

    fitting = bar.stage(LOOKED_AT, FITTED)
    frames = watched(clip, bar)

    def run(landmarker, choice) -> TrackingResult:
        chosen = replace(options, choice=choice)
        if face_landmarks is not None:
            size = clip.size
            used = request.restrict_landmarks(
                of_frames(face_landmarks, clip.start, sum(1 for _ in frames)), size
            )
            seen = from_face_landmarks(used, landmarker.canonical, choice, clip.fps, len(clip.times), size)
            return track_observations(seen, tracker.head, chosen, fitting)
        return track_face_with_report(frames, landmarker, tracker.head, clip.fps, chosen, on_step=fitting)

    return request.track("Driving video", tracker.landmarker, clip.size, run)


def encode_clip(
    clip: DrivingClip,
    tracker: HeadTracker,
    request: FaceRequest,
    options: TrackingOptions,
    face_landmarks: dict | None,
    count: int,  # frames of the clip, where there are landmarks
    bar: host.Progress,
) -> TrackingResult:
    """The same with DECA and SMIRK, which read each frame as it comes."""
    from ..magicportrait_core.tracking.interop import from_face_landmarks
    from . import released_tracking

    frames = watched(clip, bar)

    def run(landmarker, choice) -> TrackingResult:
        chosen = released_tracking.options_of(tracker.released, choice, options.missing, options.smoothing)
        seen = None
        if face_landmarks is not None:
            used = request.restrict_landmarks(of_frames(face_landmarks, clip.start, count), clip.size)
            seen = from_face_landmarks(used, landmarker.canonical, choice, clip.fps, count, clip.size)
        return released_tracking.track_clip(frames, tracker.released, landmarker, clip.fps, chosen, seen)

    return request.track("Driving video", tracker.landmarker, clip.size, run)


def smoothing_of(tracker: HeadTracker, head: float, expression: float, gaze: float) -> SmoothingOptions:
    """Chosen strengths; negative ones are those that suit the tracker."""
    from ..magicportrait_core.tracking.released_tracker import RAW
    from ..magicportrait_core.tracking.smoothing import SmoothingOptions

    usual = RAW if tracker.released else SmoothingOptions()
    chosen = {"head": head, "expression": expression, "gaze": gaze}
    return replace(usual, **{name: value for name, value in chosen.items() if value >= 0})


def of_frames(landmarks: dict, start: int, count: int) -> dict:
    """The host's landmarks of the frames that were used, where they were made from the whole clip."""
    frames = landmarks.get("frames") if isinstance(landmarks, dict) else None
    if not isinstance(frames, list) or len(frames) < start + count or len(frames) == count:
        return landmarks
    return {**landmarks, "frames": frames[start : start + count]}


def watched(clip: DrivingClip, bar: host.Progress) -> Iterator[Tensor]:
    """The clip's frames; progress and a preview of the last one as they are taken."""
    on_step = bar.stage(0.0, LOOKED_AT)
    for count, frame in enumerate(clip):
        on_step(count, max(clip.expected, count + 1), frame)
        yield frame


def in_time(track: FaceTrack, clip: DrivingClip, fps: float) -> FaceTrack:
    """The track at a constant rate: the clip's own, or the one that was asked for."""
    from .driving import retimed

    return retimed(track, clip.times, fps or clip.fps)


def pace_note(clip: DrivingClip, track: FaceTrack) -> str:
    """A line for the report where the track's frames are not those of the clip."""
    from .driving import is_uneven

    if clip.fps != track.fps:
        return (
            f"\nresampled in time from {len(clip.times)} frames at {clip.fps:g} fps to {track.num_frames} at "
            f"{track.fps:g}; frame numbers above count the video's frames"
        )
    if is_uneven(clip.times, clip.fps):
        return (
            f"\nthe video's rate varies: its {len(clip.times)} frames were resampled in time to "
            f"{track.num_frames} at an even {track.fps:g} fps; frame numbers above count the video's frames"
        )
    return ""


def draw_overlay(
    clip: DrivingClip, tracker: HeadTracker, track: FaceTrack, limit: int, bar: host.Progress
) -> Tensor:  # (N, h, w, 3), the host's IMAGE
    """The finished track over the frames nearest in time."""
    from ..magicportrait_core.overlay import overlay_clip

    frames = host.spread(track.num_frames, limit)
    nearest = clip.nearest([frame / track.fps for frame in frames])
    pictures = (clip.copy(index) for index in nearest)
    on_step = bar.stage(FITTED, 1.0)
    drawn = overlay_clip(pictures, tracker.head, track[torch.tensor(frames)], on_step)
    return host.collect(drawn, len(frames))
