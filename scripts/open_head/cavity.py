"""Finds the skin inside the mouth: what no view from outside shows while the lips are closed."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from magicportrait_core.head.model import LOWER_TEETH, SKIN, UPPER_TEETH, HeadModel
from magicportrait_core.head.skinning import axis_angle_to_matrix
from magicportrait_core.rendering.camera import Camera
from magicportrait_core.rendering.rasterizer import rasterize

YAWS = range(-90, 91, 30)  # degrees
PITCHES = (-30, 0, 30)
SIZE = 640  # pixels
SEEN_SHARE = 0.08  # a triangle seen with less of its front-facing area is hidden
ROOM = (0.012, 0.045, 0.07)  # how far around the teeth the mouth and throat reach, metres


def mouth_cavity(head: HeadModel) -> torch.Tensor:  # (T,) bool
    """Hidden skin around the teeth, as one connected sheet."""
    seen, area = torch.zeros(head.num_faces), torch.zeros(head.num_faces)
    for yaw in YAWS:
        for pitch in PITCHES:
            screen = _screen(head, yaw, pitch)
            triangle = rasterize(screen, head.faces, (SIZE, SIZE)).triangle
            seen += torch.bincount(triangle[triangle >= 0], minlength=head.num_faces)
            a, b, c = screen[0, head.faces, :2].unbind(1)
            twice = (b - a)[:, 1] * (c - a)[:, 0] - (b - a)[:, 0] * (c - a)[:, 1]
            area += (twice / 2).clamp(min=0)
    teeth = head.template[head.faces[(head.regions == UPPER_TEETH) | (head.regions == LOWER_TEETH)]].reshape(
        -1, 3
    )
    room = teeth.new_tensor(ROOM)
    middle = head.template[head.faces].mean(1)
    near = ((middle > teeth.amin(0) - room) & (middle < teeth.amax(0) + room)).all(1)
    hidden = (head.regions == SKIN) & near & (seen / area.clamp(min=1e-9) < SEEN_SHARE)
    return _largest_sheet(hidden, head.faces)


def _screen(head: HeadModel, yaw: float, pitch: float) -> torch.Tensor:  # (1, V, 3)
    middle = head.joints_template[3:5].mean(0)
    turn = axis_angle_to_matrix(torch.tensor([math.radians(pitch), 0.0, 0.0])) @ axis_angle_to_matrix(
        torch.tensor([0.0, math.radians(yaw), 0.0])
    )
    shift = -turn @ middle - torch.tensor([0.0, 0.0, 2.0])
    view = torch.cat((turn, shift[:, None]), 1)[None]
    camera = Camera(view, torch.tensor([[2200.0, SIZE / 2, SIZE / 2]]), (SIZE, SIZE))
    return camera.project(head.template[None])


def _largest_sheet(chosen: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """The largest part of the chosen triangles that hangs together."""
    numbers = chosen.nonzero()[:, 0].numpy()
    corners = faces[chosen].numpy()
    count = int(faces.max()) + 1
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    parts = part[corners[:, 0]]
    largest = np.bincount(parts).argmax()
    sheet = torch.zeros_like(chosen)
    sheet[torch.from_numpy(numbers[parts == largest])] = True
    return sheet
