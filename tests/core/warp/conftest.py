"""A real portrait, tracked once for all tests of the warp."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from magicportrait_core.head.assets import load_head
from magicportrait_core.head.skinning import axis_angle_to_matrix, matrix_to_axis_angle
from magicportrait_core.tracking.fitting import fit_track
from magicportrait_core.tracking.landmarker import load_landmarker
from magicportrait_core.tracking.observation import single_observation
from magicportrait_core.warp import prepare_warp


def to_tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


@pytest.fixture(scope="session")
def head():
    return load_head("open_head")


@pytest.fixture(scope="session")
def landmarker():
    return load_landmarker("cpu")


@pytest.fixture(scope="session")
def track_of(head, landmarker):
    def track(image):
        face = landmarker.observe(image)[0]
        return fit_track(head, single_observation(face, tuple(image.shape[-2:])))

    return track


@pytest.fixture(scope="session")
def photo():
    """The astronaut's head and shoulders, 352 x 256: neither square nor of one scale."""
    crop = Image.fromarray(data.astronaut()).crop((120, 0, 320, 275))
    return to_tensor(crop.resize((256, 352), Image.LANCZOS))


@pytest.fixture(scope="session")
def portrait(photo, track_of):
    return track_of(photo)


@pytest.fixture(scope="session")
def source(head, photo, portrait):
    return prepare_warp(head, photo, portrait)


@pytest.fixture(scope="session")
def moved(head):
    """moved(track, turn in degrees about x, y, z, expressions by name) -> the target track."""

    def move(track, turn=(0.0, 0.0, 0.0), **expressions):
        expression, pose = track.expression.clone(), track.pose.clone()
        for name, value in expressions.items():
            expression[0, head.expression_index(name)] = value
        own = axis_angle_to_matrix(pose[0, 0])
        turned = axis_angle_to_matrix(pose.new_tensor([math.radians(angle) for angle in turn])) @ own
        if any(turn):
            pose[0, 1] = matrix_to_axis_angle(own.T @ turned)
        return dataclasses.replace(track, expression=expression, pose=pose, landmarks=None)

    return move
