"""Which part of a matte is one person: what hangs together with the head, and nearer to it than to others."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor
from torch.nn import functional

Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels

CELLS = 128  # along the longer side of the grid in which people are told apart
LEAST = 0.3  # matte of a cell that belongs to anybody
EDGE_COST = 30.0  # steps that a step across a full change of colour costs
JOINED = (0.25, 0.75)  # share of a pixel's cells that are this person's


def own_share(
    picture: Tensor,  # (3, H, W) in [-1, 1]
    matte: Tensor,  # (1, H, W) 0..1, of everybody
    head: Tensor,  # (H, W) bool, pixels of this person's head
    others: list[Box],  # faces of other people
) -> Tensor:  # (1, H, W) 0..1
    """Where the matte is this person's. Others are told apart by the shortest way through the matte, on
    which colour edges are long (geodesic distance); without others, by what hangs together."""
    height, width = matte.shape[-2:]
    cell = max(1, -(-max(height, width) // CELLS))
    crowd = functional.avg_pool2d(matte[None], cell, ceil_mode=True)[0, 0] > LEAST
    seed = functional.max_pool2d(head[None, None].float(), cell, ceil_mode=True)[0, 0] > 0
    crowd = (crowd | seed).cpu().numpy()
    seed = seed.cpu().numpy()
    pieces, _ = label(crowd, np.ones((3, 3)))
    mine = np.isin(pieces, np.unique(pieces[seed & crowd]))
    if others:
        colour = functional.avg_pool2d(picture[None], cell, ceil_mode=True)[0].cpu().numpy()
        strangers = np.zeros_like(crowd)
        for box in others:
            strangers |= _face(tuple(side / cell for side in box), crowd.shape)
        mine &= _nearer(colour, mine, seed, strangers & ~seed)
    share = torch.from_numpy(mine).to(matte)
    share = functional.interpolate(share[None, None], scale_factor=cell, mode="bilinear")[0]
    low, high = JOINED
    return ((share[:, :height, :width] - low) / (high - low)).clamp(0, 1)


def _face(box: Box, size: tuple[int, int]) -> np.ndarray:
    left, top, right, bottom = box
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return (rows > top) & (rows < bottom) & (columns > left) & (columns < right)


def _nearer(colour: np.ndarray, matte: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Cells of the matte whose shortest way to `mine` is not longer than that to `theirs`."""
    if not (theirs & matte).any():
        return matte
    number = np.arange(matte.size).reshape(matte.shape)
    starts, ends, costs = [], [], []
    for first, second in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ):
        passable = matte[first] & matte[second]
        step = np.abs(colour[(slice(None), *first)] - colour[(slice(None), *second)]).max(0) / 2
        length = np.hypot(*(a != b for a, b in zip(first, second, strict=True)))
        starts.append(number[first][passable])
        ends.append(number[second][passable])
        costs.append((length * (1 + EDGE_COST * step))[passable])
    starts, ends, costs = map(np.concatenate, (starts, ends, costs))
    graph = coo_array((costs, (starts, ends)), shape=(matte.size, matte.size)).tocsr()
    ways = [
        dijkstra(graph, directed=False, indices=number[seeds & matte], min_only=True)
        for seeds in (mine, theirs)
    ]
    return (ways[0] <= ways[1]).reshape(matte.shape) & matte
