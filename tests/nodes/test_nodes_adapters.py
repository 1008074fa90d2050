"""What the adapters do to the host's values, in this process."""

import json
import math
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from comfy_api.latest import InputImpl, Types
from magicportrait_pack.nodes import NODES, common_inputs, driving, host, licensed_files, sound, track_files

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _model_folder():
    host.register_model_folder()  # as the entry point does


def test_image_becomes_picture_and_back():
    image = torch.rand(2, 5, 7, 3)
    picture = host.to_pictures(image)
    assert picture.shape == (2, 3, 5, 7) and picture.min() >= -1
    torch.testing.assert_close(host.to_image(picture), image)


def test_one_channel_is_grey_and_transparency_shows_grey():
    assert host.to_pictures(torch.full((1, 2, 2, 1), 0.75))[0, :, 0, 0].tolist() == [0.5] * 3
    clear = torch.cat((torch.ones(1, 2, 2, 3), torch.zeros(1, 2, 2, 1)), -1)
    assert host.to_pictures(clear).abs().max() < 0.01


@pytest.mark.parametrize("shape", [(4,), (1, 2, 2, 2), (1, 0, 5, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="connect the IMAGE output"):
        host.to_pictures(torch.zeros(shape))


def test_core_gets_tensors_that_can_take_part_in_a_fit():
    with torch.inference_mode():
        image = torch.zeros(1, 2, 2, 3)
        with host.ordinary_tensors():
            assert not host.to_pictures(image).is_inference()


def test_frames_are_spread_from_the_first_to_the_last():
    assert host.spread(10, 0) == list(range(10))
    assert host.spread(10, 4) == [0, 3, 6, 9]
    assert host.spread(10, 1) == [5] and host.spread(3, 8) == [0, 1, 2]


def test_pictures_are_collected_in_the_host_layout():
    image = host.collect(iter([torch.full((3, 2, 4), -1.0), torch.full((3, 2, 4), 1.0)]), 2)
    assert image.shape == (2, 2, 4, 3) and image[0].max() == 0 and image[1].min() == 1


@pytest.mark.parametrize(
    ("value", "frames"),
    [
        ({"x": 1, "y": 2, "width": 3, "height": 4}, [[(1, 2, 4, 6)]]),
        ([{"x": 0, "y": 0, "width": 1, "height": 1}] * 2, [[(0, 0, 1, 1)] * 2]),
        ([[{"x": 0, "y": 0, "width": 1, "height": 1}], []], [[(0, 0, 1, 1)], []]),
    ],
)
def test_boxes_come_in_three_forms(value, frames):
    assert common_inputs.boxes_per_frame(value) == frames


@pytest.mark.parametrize("value", ["box", [], [[]], [{"x": 1}], 5])
def test_other_boxes_are_refused(value):
    with pytest.raises(ValueError, match="^face_box "):
        common_inputs.boxes_per_frame(value)


def test_mask_counts_in_shares_of_the_picture():
    mask = torch.zeros(1, 10, 20)
    mask[:, :, 10:] = 1
    area = common_inputs.MaskArea(mask, (100, 400))  # the right half
    assert area.contains(0, 300, 50) and not area.contains(0, 100, 50) and not area.contains(0, 500, 50)


def test_batch_without_rate_plays_at_25():
    clip = driving.open_clip(torch.zeros(4, 8, 8, 3), 0.0, 1, 2, 64)
    assert len(list(clip)) == 2 and clip.fps == 25 and clip.times == [0, 1 / 25]
    assert clip.begin == 1 / 25 and clip.copies[0].dtype == torch.uint8


def test_video_in_memory_is_not_encoded_again():
    images = torch.rand(3, 8, 8, 3)
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=Fraction(10)))
    frames = list(driving.open_clip(video, 0.0, 0, 0, 64))
    torch.testing.assert_close(host.to_image(torch.stack(frames)), images)


def test_copies_are_no_larger_than_asked():
    clip = driving.open_clip(torch.zeros(1, 100, 200, 3), 0.0, 0, 0, 64)
    list(clip)
    assert tuple(clip.copies[0].shape) == (32, 64, 3) and clip.copy(0).shape == (3, 32, 64)


def test_scaled_sizes_keep_the_aspect_of_panoramas():
    height, width = host.scaled((100, 2160), 384)
    assert height == 18 and abs(width - 2160 * height / 100) <= 0.5
    assert host.scaled((1080, 1920), 384) == (216, 384)


def test_late_frames_make_a_rate_uneven():
    assert not driving.is_uneven([0, 0.033, 0.067, 0.1], 30)
    assert driving.is_uneven([0, 0.04, 0.3], 25)


def test_sound_is_cut_to_the_sample_and_padded_in_front():
    wave = torch.arange(1000.0).reshape(1, 1, 1000)
    part = sound.cut(wave, 100, 2.0, 3.0)
    assert part["waveform"].shape == (1, 1, 300) and part["waveform"][0, 0, 0] == 200
    early = sound.cut(wave, 100, -1.0, 3.0)["waveform"][0, 0]
    assert len(early) == 300 and early[:100].abs().max() == 0 and early[101] == 1


def test_pictures_have_no_sound():
    assert sound.clip_sound(torch.zeros(1, 2, 2, 3), 0.0, 1.0) is None


def test_missing_flame_is_explained_with_place_and_licence():
    text = licensed_files.missing_head("heads/flame2023_Open.pkl")
    assert "FLAME 2023 Open" in text and "CC BY 4.0" in text and str(Path("magicportrait") / "heads") in text


def test_built_in_head_is_the_first_choice():
    assert licensed_files.head_choices()[0] == licensed_files.BUILT_IN
    assert licensed_files.head_path(licensed_files.BUILT_IN) is None


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "x/../../y.safetensors [output]"])
def test_tracks_are_read_from_the_two_folders_only(name):
    with pytest.raises(FileNotFoundError, match="is not in"):
        track_files.track_path(name)


def test_previews_are_small_and_rare(monkeypatch):
    seen = []
    monkeypatch.setattr(host.comfy.utils, "PROGRESS_BAR_HOOK", lambda *a, **k: seen.append(a))
    on_step = host.progress()
    for i in range(50):
        on_step(i + 1, 50, torch.zeros(3, 1080, 1920))
    previews = [args[2] for args in seen if args[2] is not None]
    assert 1 <= len(previews) < 10 and max(previews[0][1].size) <= 2 * host.PREVIEW_SIDE
    assert seen[-1][0] == seen[-1][1] == host.Progress.STEPS


def test_cancelling_does_not_wait_for_work_without_progress(monkeypatch):
    class Cancelled(BaseException):
        pass

    def cancelled():
        raise Cancelled

    assert host.interruptible(lambda a, b: a + b, 1, 2) == 3
    monkeypatch.setattr(host, "check_cancelled", cancelled)
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        host.interruptible(time.sleep, 1.0)
    assert time.monotonic() - begin < 0.5


def test_translations_name_every_input_and_output():
    english = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))
    for node in NODES:
        schema, entry = node.GET_SCHEMA(), english[node.GET_SCHEMA().node_id]
        assert entry["display_name"] == schema.display_name and entry["description"] == schema.description
        assert {i.id: i.tooltip for i in schema.inputs} == {
            k: v["tooltip"] for k, v in entry["inputs"].items()
        }
        assert [o.tooltip for o in schema.outputs] == [v["tooltip"] for v in entry["outputs"].values()]
    for language in ("fr", "zh"):
        other = json.loads((ROOT / f"locales/{language}/nodeDefs.json").read_text(encoding="utf-8"))
        assert other.keys() == english.keys()
        for name, entry in english.items():
            assert other[name]["inputs"].keys() == entry["inputs"].keys()
            assert other[name]["outputs"].keys() == entry["outputs"].keys()
            assert all(v["name"] and v["tooltip"] for v in other[name]["inputs"].values())


def test_strengths_are_one_by_default_and_reach_zero():
    schema = next(n for n in NODES if n.GET_SCHEMA().node_id == "MagicPortraitAlignIdentity").GET_SCHEMA()
    strengths = {
        i.id: i
        for i in schema.inputs
        if i.id in ("strength", "head", "jaw", "mouth", "brows", "lids", "gaze")
    }
    assert len(strengths) == 7
    for item in strengths.values():
        assert (item.min, item.default, item.max) == (0, 1, 2) and math.isclose(item.step, 0.05)
