"""Which frames become clips, and what they hold: cuts, crops, filters, tracks and maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from face_videos import moving_face, no_face, picture, save_mp4, side_by_side

from magicportrait_core.media.image import from_levels, to_levels
from magicportrait_core.media.video import open_video
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.tracking.observation import FaceObservations
from magicportrait_core.tracking.released_crops import portrait_crop
from magicportrait_core.tracking.track import FaceTrack
from training.preparation.making import make_clip
from training.preparation.options import FOR_MODELS, Filters, PrepareOptions, claim_folder
from training.preparation.passes import find_spans, pictures_of, spread
from training.preparation.quality import best_still, sharpness, strangeness
from training.preparation.records import (
    ClipRecord,
    Job,
    VideoRecord,
    names_of,
    read_record,
    unfinished,
    write_record,
)
from training.preparation.shots import shots
from training.preparation.spans import Span, outside_share, spans_of, to_crop
from training.preparation.tools import load_tools
from training.preparation.videos import find_videos

SMALL = PrepareOptions(size=64, maps=FOR_MODELS["small"][0], clip_frames=8, min_frames=4, encoding="raw")
FACE_PIXELS = 100


@pytest.fixture(scope="module")
def tools():
    return load_tools(SMALL, torch.device("cpu"))


def seen(
    frames: int, place=lambda frame: (200.0, 200.0), width=lambda frame: FACE_PIXELS
) -> FaceObservations:
    """A face made of random landmarks, `width` across and as high, around `place`; pictures of 400x400."""
    cloud = torch.rand(478, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    cloud[:2, :2] = torch.tensor([[-0.5, -0.5], [0.5, 0.5]])
    points = torch.stack([cloud * width(i) + torch.tensor([*place(i), 0.0]) for i in range(frames)])
    return FaceObservations(
        points=points,
        blendshapes=torch.zeros(frames, 52),
        presence=torch.ones(frames),
        found=torch.ones(frames, dtype=torch.bool),
        size=(400, 400),
        fps=12.0,
        num_faces=torch.ones(frames, dtype=torch.int64),
    )


def walking(frame: int) -> tuple[float, float]:
    return 200.0 + 2 * frame, 200.0


def places(spans: list[Span]) -> list[tuple[int, int, str]]:
    return [(span.start, span.stop, span.fault.reason if span.fault else "") for span in spans]


def test_a_cut_is_found_and_motion_is_none():
    frames = [*moving_face(4, size=96), *no_face(3, size=96), *moving_face(2, size=96)]
    assert [len(list(shot)) for shot in shots(frames)] == [4, 3, 2]
    taken = [next(shot) for shot in shots(frames)]  # the rest of each shot is skipped
    assert [any(frame is frames[i] for frame in taken) for i in (0, 4, 7)] == [True] * 3
    assert list(shots([])) == []


def test_runs_are_split_where_the_face_is_lost_jumps_or_is_doubtful():
    gap = seen(12, walking)
    gap.found[5], gap.points[5] = False, torch.nan
    assert places(spans_of(gap, 100, SMALL)) == [(100, 105, ""), (106, 112, "")]
    jump = seen(10, lambda frame: (200.0 + 2 * frame + 60 * (frame > 5), 200.0))
    assert places(spans_of(jump, 0, SMALL)) == [(0, 6, ""), (6, 10, "")]
    doubt = seen(10, walking)
    doubt.presence[3] = 0.2
    assert places(spans_of(doubt, 0, SMALL)) == [(0, 3, "too short"), (4, 10, "")]


def test_long_runs_become_clips_of_about_one_length():
    assert [stop - start for start, stop, _ in places(spans_of(seen(17, walking), 0, SMALL))] == [6, 6, 5]
    few = replace(SMALL, min_frames=7)  # 6 would be too short, so clips are as long as they may be
    assert [span.frames for span in spans_of(seen(17, walking), 0, few)] == [8, 8, 1]
    clips = [Span(i, i + 1) for i in range(10)]
    assert [span.start for span in spread(clips, 4)] == [0, 2, 5, 7]
    assert spread(clips, None) == clips


def test_a_clip_ends_where_the_face_leaves_the_crop_of_its_first_frame():
    # The crop reaches 1.09 face widths to each side: a centre that goes 20 pixels a frame carries the edge of
    # a face of 100 pixels beyond it (59 pixels of room, 2 % of 218 allowed) in the fourth frame.
    quick = seen(8, lambda frame: (120.0 + 20 * frame, 200.0))
    assert places(spans_of(quick, 0, SMALL)) == [(0, 4, ""), (4, 8, "")]


def test_clips_are_dropped_for_what_the_landmarks_show():
    def reason(observations: FaceObservations, **filters) -> str:
        (span,) = spans_of(observations, 0, replace(SMALL, filters=Filters(**filters)))
        return span.fault.reason if span.fault else ""

    assert reason(seen(6, walking)) == ""
    assert reason(seen(6)) == "hardly moves"
    assert reason(seen(6), min_motion=0) == ""
    assert reason(seen(6, walking), min_face=101) == "small face"
    assert reason(seen(6, walking), min_face=99) == ""
    assert PrepareOptions().min_face == 117 and SMALL.min_face == 15  # half of 352 / 1.5 of 512 pixels
    assert reason(seen(6, lambda frame: (10.0 + 2 * frame, 10.0))) == "beyond the picture"


def test_how_much_of_a_crop_lies_outside():
    size = 352 / 1.5 / 512 * 400  # of a face whose crop is just 400 pixels wide
    half = size / 2
    assert outside_share((200 - half, 0, 200 + half, 400), (400, 400)) == pytest.approx(0, abs=1e-6)
    assert outside_share((0 - half, 0, 0 + half, 400), (400, 400)) == pytest.approx(0.5, abs=1e-6)
    assert outside_share((0 - half, -5, 0 + half, 5), (400, 400)) == pytest.approx(0.75, abs=1e-6)


def test_landmarks_lie_where_the_crop_shows_their_pixels():
    # A white dot of 3x3 pixels whose middle pixel is column 141, row 77: landmarks there say 141.5, 77.5.
    frame = torch.full((3, 200, 300), -1.0)
    frame[:, 76:79, 140:143] = 1.0
    one = replace(seen(1), points=torch.tensor([[[141.5, 77.5, 0.0]]]), size=(200, 300))
    box = (100.0, 20.0, 180.0, 120.0)
    crop = (portrait_crop(frame, box, 512)[0] + 1) / 2
    rows, columns = (torch.arange(512) + 0.5 for _ in range(2))
    x, y = float((crop.sum(0) * columns).sum() / crop.sum()), float((crop.sum(1) * rows).sum() / crop.sum())
    moved = to_crop(one, box, 512)
    assert moved.points[0, 0, :2].tolist() == pytest.approx([x, y], abs=0.01)
    assert moved.size == (512, 512)


def test_blur_lowers_sharpness_and_contrast_does_not():
    def crop(blur: float) -> torch.Tensor:
        frame = from_levels(torch.from_numpy(np.array(picture(blur=blur))))
        return to_levels(portrait_crop(frame, (178, 60, 268, 190), 512)).movedim(-1, 0)

    crops = torch.stack([crop(blur) for blur in (0, 1, 2, 6)])
    for size in (64, 128, 512):
        values = sharpness(crops, size)
        assert bool((values[:-1] > values[1:]).all())
        options = replace(SMALL, size=size)
        assert values[3] < options.min_sharpness < values[0]
    pale = (crops[:1].float() * 0.5 + 64).round().byte()
    assert float(sharpness(pale, 128)) == pytest.approx(float(sharpness(crops[:1], 128)), rel=0.02)


def test_the_still_picture_is_frontal_calm_sharp_and_seen_well():
    yaw = torch.tensor([0.3, 0.05, 0.6])
    pose = torch.zeros(3, 5, 3)
    pose[:, 0, 1] = yaw
    track = FaceTrack(
        head="open_head",
        shape=torch.zeros(1, 1),
        expression=torch.zeros(3, 1),
        pose=pose,
        eyelids=torch.zeros(3, 2),
        camera=Camera(torch.eye(3, 4).expand(3, 3, 4), torch.ones(3, 3), (64, 64)),
        fps=12.0,
        confidence=torch.ones(3),
        found=torch.ones(3, dtype=torch.bool),
        error=torch.ones(3),
        landmarks=torch.tensor([[0.0, 0, 0], [9, 9, 0]]).repeat(3, 1, 1),
    )
    same, calm = torch.ones(3), torch.zeros(3, 52)
    assert best_still(track, same, same, calm) == 1
    laughing = calm.clone()
    laughing[1, 25:40] = 0.5
    assert best_still(track, same, same, laughing) == 0
    assert best_still(track, torch.tensor([1.0, 0.01, 0.5]), same, calm) == 0
    assert best_still(track, same, torch.tensor([1.0, 2.0, 1.0]), calm) == 0
    hidden = replace(track, confidence=torch.tensor([1.0, 0.5, 1.0]))
    assert best_still(hidden, same, same, calm) == 0
    misfit = replace(track, error=torch.tensor([1.0, 6.0, 1.0]))
    assert best_still(misfit, same, same, calm) == 0
    near = replace(track, landmarks=track.landmarks * torch.tensor([1.0, 2.0, 1.0])[:, None, None])
    assert best_still(near, same, same, calm) == 0


def test_something_before_the_face_is_strange():
    crops = torch.full((5, 3, 64, 64), 180, dtype=torch.uint8)
    crops[3, :, 32:] = 40  # covers the lower half in one frame: 140 / 255 of half the landmarks
    rows = torch.linspace(4, 60, 57)
    landmarks = torch.stack((torch.full((57,), 32.0), rows, torch.zeros(57)), 1).expand(5, 57, 3)
    strange = strangeness(crops, landmarks)
    assert strange[[0, 1, 2, 4]].tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)
    assert float(strange[3]) == pytest.approx(0.5 * 140 / 255, abs=0.03)


SMALL_SHORT = replace(SMALL, min_frames=2, filters=Filters(min_motion=0))


def reader_of(frames):
    """Frames as a video is read."""

    class Reader:
        fps = 12

        def __iter__(self):
            return iter(frames)

    return Reader()


def test_of_two_faces_the_larger_is_taken_and_shots_without_a_face_are_named(tools):
    two = side_by_side(moving_face(4), moving_face(4))
    found = find_spans(reader_of([*two, *no_face(3, 240)]), tools, SMALL_SHORT, lambda _: None)
    assert found.shots == 2 and found.frames == 7
    assert places(found.spans) == [(0, 4, ""), (4, 7, "no face")]
    assert found.spans[0].box[0] > 120 and found.spans[0].figures["face_pixels"] > 50


def test_frames_of_the_second_pass_are_those_of_the_spans(tmp_path):
    path = save_mp4(tmp_path / "a.mp4", [torch.full((3, 16, 16), i / 5 - 1) for i in range(10)], 10)
    video = open_video(path)
    spans = [Span(2, 4), Span(6, 9, fault=object()), Span(9, 10)]
    levels = [round((float(frame.mean()) + 1) * 5) for frame in video]
    taken = list(pictures_of(video, spans, lambda span, frame: round((float(frame.mean()) + 1) * 5)))
    assert [pictures for _, pictures in taken] == [levels[2:4], levels[6:7], levels[9:10]]


def test_a_clip_holds_the_truth_its_warp_and_maps(tools):
    """The astronaut slides and tilts: the warp of the still picture must come nearer to the truth than the
    still picture itself, and the maps must lie on the face."""
    frames = moving_face(6, step=4.0)
    (span,) = find_spans(reader_of(frames), tools, SMALL, lambda _: None).spans
    crops = torch.stack([to_levels(portrait_crop(f, span.box, 512)).movedim(-1, 0) for f in frames])
    made = make_clip(tools, SMALL, "a", crops, to_crop(span.observations, span.box, 512))
    clip = made.clip
    assert made.fault is None and made.figures["error"] < 3
    assert clip.frames.shape == (5, 3, 64, 64) and clip.reference.shape == (3, 64, 64)
    assert {name: value.shape[1] for name, value in clip.maps.items()} == {
        "depth": 1, "normal": 3, "warp": 3, "sources": 1, "normal_left": 1
    }  # fmt: skip
    assert not any(torch.equal(clip.reference, frame) for frame in clip.frames)  # it is no target
    head = (clip.maps["depth"] > 0).expand(-1, 3, -1, -1)
    assert 0.1 < head.float().mean() < 0.6

    def error(pictures: torch.Tensor) -> float:
        return float((pictures.float() - clip.frames.float()).square()[head].mean())

    assert error(clip.maps["warp"]) < 0.25 * error(clip.reference.expand_as(clip.frames))
    towards_left = clip.maps["normal"][:, :1].bool() & clip.maps["normal_left"].bool()
    assert towards_left.float().mean() < 0.05  # a surface faces one side or the other
    assert made.track.size == (64, 64) and made.track.num_frames == 5
    nose = made.track.landmarks[:, 1, :2].round().long()
    assert bool(head[torch.arange(5), 0, nose[:, 1], nose[:, 0]].all())
    assert made.still_track.num_frames == 1


def test_a_head_that_does_not_fit_and_a_blurred_face_are_faults(tools):
    frames = moving_face(4)
    (span,) = find_spans(reader_of(frames), tools, SMALL, lambda _: None).spans
    crops = torch.stack([to_levels(portrait_crop(f, span.box, 512)).movedim(-1, 0) for f in frames])
    strict = replace(SMALL, filters=Filters(max_error=0.1))
    observations = to_crop(span.observations, span.box, 512)
    assert make_clip(tools, strict, "a", crops, observations).fault.reason == "tracking"
    flat = torch.full_like(crops, 128)
    assert make_clip(tools, SMALL, "a", flat, observations).fault.reason == "blurred"


def test_options_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="maps=depth,hair; expected some of depth, normal"):
        PrepareOptions(maps=("depth", "hair"))
    with pytest.raises(ValueError, match="size=100; expected a multiple of 8 from 64"):
        PrepareOptions(size=100)
    with pytest.raises(ValueError, match="size=72; latents need a multiple of 64"):
        PrepareOptions(size=72, vae="vae.safetensors")
    with pytest.raises(ValueError, match="need --flame, --deca and --smirk"):
        PrepareOptions(flame="generic_model.pkl")
    with pytest.raises(ValueError, match="made with the built-in head"):
        PrepareOptions(maps=("warp",), flame="a", deca="b", smirk="c")
    with pytest.raises(ValueError, match="min_presence=2"):
        Filters(min_presence=2)
    with pytest.raises(ValueError, match="min_frames=9, clip_frames=8"):
        PrepareOptions(clip_frames=8, min_frames=9)


def test_a_folder_keeps_its_options(tmp_path):
    claim_folder(tmp_path / "out", SMALL)
    claim_folder(tmp_path / "out", SMALL)
    with pytest.raises(ValueError, match="was begun with --size 64, now it is 128; give the same options"):
        claim_folder(tmp_path / "out", replace(SMALL, size=128))
    with pytest.raises(ValueError, match="was begun with --max-error 3.0, now it is 2"):
        claim_folder(tmp_path / "out", replace(SMALL, filters=Filters(max_error=2)))
    (tmp_path / "out" / "prepared.json").write_text("{")
    with pytest.raises(ValueError, match="prepared.json is damaged"):
        claim_folder(tmp_path / "out", SMALL)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written .*choose another --output"):
        claim_folder(tmp_path / "file", SMALL)


def test_videos_are_found_below_a_folder_and_get_names_of_their_own(tmp_path):
    for name in ("b/x y.mp4", "b/x_y.mp4", "a.WEBP", "notes.txt", "out/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    jobs = find_videos(tmp_path, leave_out=tmp_path / "out")
    assert [job.shown for job in jobs] == ["a.WEBP", "b/x y.mp4", "b/x_y.mp4"]
    assert len({job.name for job in jobs}) == 3 and jobs[0].name == "a.WEBP"
    assert names_of(["A.mp4", "a.mp4"])[0] != names_of(["A.mp4", "a.mp4"])[1].upper()
    assert find_videos(tmp_path / "a.WEBP")[0].shown == "a.WEBP"
    with pytest.raises(FileNotFoundError, match="there is no folder .*nothing"):
        find_videos(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds nothing; expected .*mp4"):
        find_videos(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds 1 files, but no video"):
        find_videos(tmp_path / "empty")


def test_a_video_is_done_when_its_record_and_its_clips_are_there(tmp_path):
    jobs = [Job(Path("a"), "a", "a", 10), Job(Path("b"), "b", "b", 20)]
    record = VideoRecord(
        "a", "a", 10, notes=("damaged",), clips=(ClipRecord("a-0", 0, 5, figures={"x": 1.0}),)
    )
    write_record(tmp_path, record)
    assert read_record(tmp_path, "a") == record
    assert unfinished(tmp_path, jobs, ["a-0"]) == jobs[1:]
    assert unfinished(tmp_path, jobs, []) == jobs  # the clip's shard was deleted
    with pytest.raises(ValueError, match="a has 11 bytes, and 10 when it was prepared"):
        unfinished(tmp_path, [replace(jobs[0], bytes=11)], ["a-0"])
