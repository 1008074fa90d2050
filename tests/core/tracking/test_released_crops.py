"""Crops against the released code's own tools (scikit-image) and recorded numbers."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from magicportrait_core.tracking.landmarks_68_of_478 import POINTS, landmarks_68
from magicportrait_core.tracking.released_crops import (
    CropRules,
    box_of,
    deca_crop,
    portrait_crop,
    portrait_transform,
    smirk_crop,
    working_size,
)

BOXES = [(180.3, 60.2, 270.7, 190.9), (400.0, -20.0, 560.0, 150.0)]  # the second reaches out of the picture


def levels(picture):
    return ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def warped(picture, box, margin, **options):
    """As the released code: a similarity from three corners of the square, then a bilinear warp."""
    transform = pytest.importorskip("skimage.transform")
    left, top, right, bottom = box
    side = int(margin * (right - left + bottom - top) / 2)
    x, y = (left + right) / 2 - side / 2, (top + bottom) / 2 - side / 2
    corners = np.array([[x, y], [x, y + side], [x + side, y]])
    similarity = transform.estimate_transform("similarity", corners, np.array([[0, 0], [0, 223], [223, 0]]))
    crop = transform.warp(picture, similarity.inverse, output_shape=(224, 224), **options)
    return crop, np.linalg.inv(similarity.params).T


def resized(picture, size):
    transform = pytest.importorskip("skimage.transform")
    return (transform.resize(picture, size, anti_aliasing=True) * 255).astype(np.uint8)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("side", [512, 700, 300])
def test_deca_crop_is_the_released_one(astronaut, box, side):
    given = resized(levels(astronaut), (side, side))
    picture = torch.from_numpy(given).permute(2, 0, 1).float() / 127.5 - 1
    expected, transform = warped(resized(given, (512, 512)) / 255.0, box, 1.3 * 1.1)
    crop = deca_crop(picture, [value * side / 512 for value in box])
    difference = np.abs(crop.picture.permute(1, 2, 0).numpy() - expected) * 255
    assert difference.max() < 1.1 and difference.mean() < 0.01
    np.testing.assert_allclose(crop.transform.numpy(), transform, atol=2e-5)
    assert crop.size == (512, 512)


@pytest.mark.parametrize("box", BOXES)
def test_smirk_crop_is_the_released_one(astronaut, box):
    expected, transform = warped(levels(astronaut), box, 1.4, preserve_range=True)
    crop = smirk_crop(astronaut, box)
    found = (crop.picture.permute(1, 2, 0) * 255).round().byte().numpy()
    difference = np.abs(found.astype(int) - expected.astype(np.uint8))
    assert difference.max() <= 1 and (difference > 0).mean() < 2e-3  # sums a hair below a whole level
    np.testing.assert_allclose(crop.transform.numpy(), transform, atol=2e-5)


def test_rules_can_keep_more_of_the_picture(astronaut):
    box = BOXES[0]
    cut, kept = deca_crop(astronaut, box), deca_crop(astronaut, box, CropRules(truncate=False))
    change = (kept.picture - cut.picture) * 255
    assert change.min() > -1e-3 and 0.05 < change.mean() < 0.2 and change.max() <= 1.001
    large = torch.nn.functional.interpolate(astronaut[None], scale_factor=2, mode="bicubic")[0].clamp(-1, 1)
    sharp = deca_crop(large, [2 * value for value in box], CropRules(working_side=False))
    assert sharp.size == (1024, 1024)
    soft = deca_crop(large, [2 * value for value in box])

    def detail(crop):
        return crop.picture.diff(dim=2).abs().mean()

    assert detail(sharp) > 1.1 * detail(soft)


def test_pictures_that_are_not_square_keep_their_aspect(astronaut):
    assert working_size((1080, 1920)) == (288, 512) and working_size((512, 512)) == (512, 512)
    wide = torch.nn.functional.pad(astronaut, (0, 256))
    a, b = deca_crop(astronaut, BOXES[0]), deca_crop(wide, BOXES[0])
    assert b.size == (341, 512)
    assert (a.picture - b.picture).abs().mean() < 0.03  # the same face, from fewer pixels
    in_picture = [crop.transform[:, :2] * 512 / crop.size[0] for crop in (a, b)]
    torch.testing.assert_close(*in_picture, atol=1.5, rtol=0)


def test_square_crop_of_the_portrait_is_the_released_one(astronaut, golden):
    recorded = load_file(golden / "released_misc.safetensors")
    for box, affine in zip(recorded["crop_bbox"].tolist(), recorded["crop_affine"], strict=True):
        torch.testing.assert_close(portrait_transform(box), affine.float(), atol=1e-4, rtol=1e-6)
    cv2 = pytest.importorskip("cv2")
    box = BOXES[0]
    expected = cv2.warpAffine(levels(astronaut), portrait_transform(box).numpy(), (512, 512))
    found = ((portrait_crop(astronaut, box) + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 0.6  # OpenCV rounds
    with pytest.raises(ValueError, match="has no width"):
        portrait_crop(astronaut, (10, 10, 10, 20))


def test_empty_boxes_are_refused(astronaut):
    for crop in (deca_crop, smirk_crop):
        with pytest.raises(ValueError, match="is empty; expected left, top, right, bottom"):
            crop(astronaut, (100.0, 100.0, 100.0, 100.0))
    assert not deca_crop(astronaut, (-900.0, -900.0, -800.0, -800.0)).picture.any()  # black outside


def test_68_points_lie_where_their_scheme_puts_them(astronaut, landmarker):
    (face,) = landmarker.observe(astronaut)
    points = landmarks_68(face.points)
    assert points.shape == (68, 2) and len(set(POINTS)) == 68
    x, y = points.T
    left, top, right, bottom = box_of(points)
    assert left == x[:9].min() and right == x[8:17].max()  # the ears' ends of the jaw
    assert top == y[17:27].min() and bottom == y[8]  # brows, chin
    assert (x[17:27].diff() > 0).all()  # along the brows, from the person's right
    assert (y[27:31].diff() > 0).all() and (x[31:36].diff() > 0).all()  # down the nose, along its base
    assert y[36:48].max() < y[30] < y[48:].min()  # eyes above the nose's tip, above the lips
    assert (y[61:64] <= y[65:68].flip(0) + 1).all()  # upper inner lip above the lower


def test_mapping_is_symmetric():
    """Each point's mirror image in the iBUG scheme is its mirror image on the canonical face."""
    from magicportrait_core.tracking.landmarker import load_landmarker

    mirror = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    vertices = load_landmarker().canonical.vertices[torch.tensor(POINTS)]
    image = vertices[mirror] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(vertices, image, atol=0.35, rtol=0)  # centimetres
