"""The landmarker on real and awkward pictures, and its parts by hand."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from magicportrait_core.media.image import resize
from magicportrait_core.tracking.detector import Detection, anchors, decode, further_squares, merge, tiles
from magicportrait_core.tracking.face_region import Region, cut, overlap, region_of_points
from magicportrait_core.tracking.landmarker import ASSET, BLENDSHAPE_NAMES, Landmarker, load_landmarker
from magicportrait_core.tracking.landmarker_networks import (
    BLENDSHAPE_POINTS,
    DETECTOR_SIZE,
    pad_like_tensorflow,
)

NOSE_TIP = 1
TWO_FACES = "comfyui_workflow_templates_media_image/templates/utility_hitpaw_video_enhance-2.webp"


def on_canvas(picture: torch.Tensor, size: tuple[int, int], left: int, top: int) -> torch.Tensor:
    """The picture on a grey ramp of `size` (height, width)."""
    canvas = torch.linspace(-0.6, 0.6, size[1]).expand(3, *size).clone()
    canvas[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return canvas


def worst(points: torch.Tensor, expected: torch.Tensor) -> float:
    return float((points[:, :2] - expected[:, :2]).norm(dim=-1).max())


def test_the_asset_is_small_and_says_where_it_is_from():
    assert ASSET.stat().st_size < 5_000_000
    assert ASSET.with_suffix(".md").read_text().count("Apache") >= 1


def test_there_are_52_blendshapes_of_146_points():
    assert len(BLENDSHAPE_NAMES) == len(set(BLENDSHAPE_NAMES)) == 52
    assert len(BLENDSHAPE_POINTS) == 146 and BLENDSHAPE_NAMES[0] == "_neutral"


def test_odd_padding_comes_last():
    padded = pad_like_tensorflow(torch.ones(1, 1, 4, 4), kernel=3, stride=2)
    assert padded.shape == (1, 1, 5, 5)
    assert padded[0, 0, 0, 0] == 1 and padded[0, 0, 4].sum() == 0 and padded[0, 0, :, 4].sum() == 0


def test_a_region_turned_by_a_quarter_takes_right_to_down():
    region = Region(x=10, y=20, width=8, height=8, angle=math.pi / 2)
    corners = region.to_picture(torch.tensor([[0.5, 0.5], [1.0, 0.5]]))
    torch.testing.assert_close(corners, torch.tensor([[10.0, 20.0], [10.0, 24.0]]))


def test_cutting_the_whole_picture_at_its_size_gives_its_levels():
    levels = torch.randint(0, 256, (3, 8, 8)).float()
    crop = cut(levels / 127.5 - 1, [Region(4, 4, 8, 8)], 8)
    assert torch.equal(crop[0], levels)


def test_outside_the_picture_is_black_for_the_detector_and_edge_for_the_mesh():
    white = torch.ones(3, 4, 4)
    beyond = [Region(2, 2, 16, 16)]
    assert cut(white, beyond, 16, "black")[0, :, 0, 0].tolist() == [0, 0, 0]
    assert cut(white, beyond, 16, "edge")[0, :, 0, 0].tolist() == [255, 255, 255]


def test_overlap_of_boxes():
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0


def test_anchors_stand_in_cell_centres():
    centres = anchors()
    assert centres.shape == (896, 2)
    assert centres[0].tolist() == [1 / 32, 1 / 32] and centres[-1].tolist() == [15 / 16, 15 / 16]


def test_an_anchor_is_decoded_around_its_centre():
    logits, values = torch.full((896,), -20.0), torch.zeros(896, 16)
    logits[0], values[0, 2:4] = 0.0, 64.0  # a box of half the square's side
    [found] = decode(logits, values, Region(50, 50, 100, 100), min_score=0.5)
    centre = 100 / 32
    assert found.box == pytest.approx((centre - 25, centre - 25, centre + 25, centre + 25))
    assert found.score == pytest.approx(0.5)


def test_boxes_of_one_face_become_their_weighted_mean():
    boxes = [((0, 0, 10, 10), 0.9), ((1, 0, 11, 10), 0.6), ((50, 50, 60, 60), 0.7)]
    merged = merge([Detection(box, torch.zeros(6, 2), score) for box, score in boxes])
    assert [d.score for d in merged] == [0.9, 0.7]
    assert merged[0].box == pytest.approx((0.4, 0, 10.4, 10))


def test_tiles_cover_the_picture_and_stay_inside():
    squares = tiles((1080, 1920), 480)
    assert min(s.x for s in squares) == 240 and max(s.x for s in squares) == 1920 - 240
    assert min(s.y for s in squares) == 240 and max(s.y for s in squares) == 1080 - 240
    assert sum(len(level) for level in further_squares((1080, 1920))) < 150
    assert sum(len(level) for level in further_squares((2160, 3840))) < 150


def test_a_picture_of_16_pixels_shows_no_face(landmarker):
    assert landmarker.observe(torch.rand(3, 16, 16) * 2 - 1) == []
    assert landmarker.observe(torch.zeros(3, 1, 1)) == []


def test_a_face_of_40_pixels_is_found_in_full_hd(landmarker, astronaut):
    face = landmarker.observe(astronaut)[0]
    scale = 40 / (face.box[2] - face.box[0])
    small = resize(astronaut, (round(512 * scale),) * 2)
    picture = on_canvas(small, (1080, 1920), left=1500, top=700)
    assert landmarker.observe(picture, thorough=False) == []
    [found] = landmarker.observe(picture)
    expected = face.points * (small.shape[1] / 512) + torch.tensor([1500.0, 700.0, 0.0])
    assert worst(found.points, expected) < 3


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_that_lies_on_its_side_is_read(landmarker, astronaut, turns):
    [found] = landmarker.observe(astronaut.rot90(turns, (1, 2)))
    x, y = landmarker.observe(astronaut)[0].points[:, :2].T
    turned = {1: (y, 511 - x), 2: (511 - x, 511 - y), 3: (511 - y, x)}[turns]
    assert worst(found.points, torch.stack(turned, -1)) < 4


def test_a_face_that_fills_the_picture_is_read(landmarker, astronaut):
    face = landmarker.observe(astronaut)[0]
    left, top, right, bottom = (round(v) for v in face.box)
    close = resize(astronaut[:, top + 8 : bottom - 8, left + 4 : right - 4], (400, 400))
    [found] = landmarker.observe(close)
    assert abs(float(found.points[NOSE_TIP, 0]) - 200) < 40


def test_grey_and_dark_pictures_give_nearly_the_same_points(landmarker, astronaut):
    expected = landmarker.observe(astronaut)[0].points
    grey = astronaut.mean(0, keepdim=True).expand(3, -1, -1)
    dark = (astronaut + 1) * 0.3 - 1
    for picture in (grey, dark):
        assert worst(landmarker.observe(picture)[0].points, expected) < 5


def test_half_a_face_is_read_or_refused_but_does_not_crash(landmarker, astronaut):
    face = landmarker.observe(astronaut)[0]
    middle = round(float(face.points[NOSE_TIP, 0]))
    for half in (astronaut[:, :, :middle], astronaut[:, :, middle:]):
        for found in landmarker.observe(half):
            assert found.points.isfinite().all()


def test_two_faces_keep_the_order_of_the_frame_before(landmarker, real_frame):
    first, second = real_frame(TWO_FACES, 0), real_frame(TWO_FACES, 1)
    faces = landmarker.observe(first, max_faces=2)
    assert len(faces) == 2
    for previous in (faces, faces[::-1]):
        again = landmarker.observe(second, previous, max_faces=2)
        for before, now in zip(previous, again, strict=True):
            assert overlap(before.box, now.box) > 0.7


def test_regions_of_two_frames_on_one_face_give_one_face(landmarker, astronaut):
    face = landmarker.observe(astronaut)[0]
    assert len(landmarker.observe(astronaut, [face, face], max_faces=2)) == 1


def test_the_region_of_a_face_is_its_box_and_a_half(landmarker, astronaut):
    face = landmarker.observe(astronaut)[0]
    region = region_of_points(face.points)
    left, top, right, bottom = face.box
    assert abs(region.angle) < 0.2
    assert region.width == pytest.approx(1.5 * max(right - left, bottom - top), rel=0.1)


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (torch.zeros(1, 3, 8, 8), r"picture is \(1, 3, 8, 8\)"),
        (torch.zeros(8, 8, 3), r"expected a float tensor \(3, H, W\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "of torch.uint8"),
        (torch.zeros(3, 0, 8), r"picture is \(3, 0, 8\)"),
    ],
)
def test_other_tensors_are_refused(landmarker, picture, sentence):
    with pytest.raises(ValueError, match=sentence):
        landmarker.observe(picture)


def test_no_faces_cannot_be_asked_for(landmarker):
    with pytest.raises(ValueError, match="max_faces=0"):
        landmarker.observe(torch.zeros(3, DETECTOR_SIZE, DETECTOR_SIZE), max_faces=0)


def test_points_may_take_part_in_a_fit_with_gradients(landmarker, astronaut):
    points = landmarker.observe(astronaut)[0].points
    scale = torch.ones(1, requires_grad=True)
    (points * scale).square().mean().backward()
    assert scale.grad.item() > 0


def test_observing_leaves_no_trace(landmarker: Landmarker, astronaut):
    first = landmarker.observe(astronaut)[0]
    landmarker.observe(astronaut.flip(-1))
    assert torch.equal(landmarker.observe(astronaut)[0].points, first.points)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="face landmarker weights are missing"):
        load_landmarker(path=tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match="is not a version 1 face landmarker file"):
        load_landmarker(path=other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a file")
    with pytest.raises(ValueError, match="cannot be read"):
        load_landmarker(path=broken)


def test_weights_are_stored_in_half_precision():
    dtypes = {name: tensor.dtype for name, tensor in load_file(ASSET).items() if "canonical" not in name}
    assert set(dtypes.values()) == {torch.float16}


@pytest.mark.parametrize(
    "name", ["coffee", "chelsea", "brick", "grass", "motorcycle_left", "hubble_deep_field"]
)
def test_pictures_without_a_person_show_no_face(landmarker, real_frame, name):
    suffix = "jpg" if name.startswith("hubble") else "png"
    assert landmarker.observe(real_frame(f"skimage/data/{name}.{suffix}")) == []
