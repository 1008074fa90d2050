"""Which frames make which batch, what networks see of them, and what is refused."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_model import TINY

from magicportrait_core.models.config import SD15
from training.augment import NO_AUGMENT, AugmentOptions
from training.clip_store import Clip, ClipStore, ClipWriter
from training.examples import Examples, quotas

SIDE = TINY.side
RELEASED = replace(SD15, side=SIDE)  # its maps, no warp


def plain_clip(number: int, frames: int, side: int = SIDE, reference: bool = True, fps: float = 25.0) -> Clip:
    """Every pixel of frame f of clip n is 10 n + f, of the reference 200 + n, of maps 100 + f."""

    def flat(channels: int, first: int) -> torch.Tensor:
        values = torch.arange(first, first + frames, dtype=torch.uint8)
        return values[:, None, None, None].expand(frames, channels, side, side).contiguous()

    maps = {name: flat(channels, 100) for name, channels in (("depth", 1), ("normal", 3), ("warp", 3))}
    maps |= {"render": flat(3, 100), "sources": flat(1, 0) % 6}
    still = torch.full((3, side, side), 200 + number, dtype=torch.uint8) if reference else None
    return Clip(f"clip{number}", flat(3, 10 * number), maps, still, fps)


def store_of(folder, *clips: Clip) -> ClipStore:
    with ClipWriter(folder) as writer:
        for clip in clips:
            writer.add(clip)
    return ClipStore(folder)


def examples_of(*stores, config=TINY, window=1, batch=4, seed=0, augment=NO_AUGMENT) -> Examples:
    pairs = [store if isinstance(store, tuple) else (store, 1.0) for store in stores]
    return Examples(pairs, config, window, batch, seed, augment)


def same(first, second) -> bool:
    parts = [(first.reference, second.reference), (first.frames, second.frames)]
    parts += [(first.maps[name], second.maps[name]) for name in first.maps]
    parts += [] if first.labels is None else [(first.labels, second.labels)]
    return all(torch.equal(a, b) for a, b in parts)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three clips of 4, 6 and 5 frames."""
    return store_of(tmp_path_factory.mktemp("clips"), *(plain_clip(i, n) for i, n in enumerate((4, 6, 5))))


def test_a_row_is_what_the_store_holds(store):
    batch = examples_of(store, window=3, batch=2).batch_at(7)
    assert batch.reference.shape == (2, 3, SIDE, SIDE)
    assert batch.frames.shape == (2, 3, 3, SIDE, SIDE)
    assert batch.labels.shape == (2, 3, 1, SIDE, SIDE)
    assert set(batch.maps) == set(TINY.maps)
    for row in range(2):
        values = batch.frames[row, :, 0, 0, 0].tolist()
        clip, start = divmod(values[0], 10)
        assert values == [10 * clip + start, 10 * clip + start + 1, 10 * clip + start + 2]
        assert batch.reference[row].unique().tolist() == [200 + clip]
        assert batch.maps["portrait"][row].unique().tolist() == [200 + clip]
        assert torch.equal(batch.maps["depth"][row, :, 0], batch.maps["depth"][row, :, 2])
        assert batch.maps["warp"][row, :, 0, 0, 0].tolist() == [100 + start, 101 + start, 102 + start]
        assert batch.labels[row, :, 0, 0, 0].tolist() == [start % 6, (start + 1) % 6, (start + 2) % 6]


def test_sources_are_photo_made_up_and_mouth(store):
    batch = examples_of(store, window=6, batch=1).batch_at(0)  # clip 1 alone is as long
    photo, made_up, mouth, nothing = ([255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0])
    expected = [photo, made_up, made_up, made_up, mouth, nothing]  # labels 0 to 5
    assert batch.maps["sources"][0, :, :, 0, 0].tolist() == expected


def test_every_frame_comes_once_before_any_comes_again(store):
    examples = examples_of(store, batch=5)
    for again in range(3):
        seen = [
            value
            for step in range(3 * again, 3 * again + 3)
            for value in examples.batch_at(step).frames[:, 0, 0, 0, 0].tolist()
        ]
        assert sorted(seen) == [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24]


def test_windows_lie_inside_of_their_clip_and_start_anywhere(store):
    examples = examples_of(store, window=3, batch=8)
    starts = Counter()
    for step in range(50):
        frames = examples.batch_at(step).frames[:, :, 0, 0, 0]
        assert (frames.diff(dim=1) == 1).all()
        starts.update(frames[:, 0].tolist())
    assert set(starts) == {0, 1, 10, 11, 12, 13, 20, 21, 22}


def test_a_step_gives_the_same_rows_whenever_and_wherever_it_is_asked_for(store):
    augment = AugmentOptions()
    first = examples_of(store, augment=augment, seed=3)
    steps = [first.batch_at(step) for step in range(4)]
    later = examples_of(ClipStore(store.folder), augment=augment, seed=3)
    assert all(same(later.batch_at(step), steps[step]) for step in (3, 1, 0, 2))
    assert not same(steps[0], steps[1])
    assert not same(examples_of(store, augment=augment, seed=4).batch_at(0), steps[0])


def test_threads_get_what_one_thread_gets(store):
    examples = examples_of(store, augment=AugmentOptions())
    alone = [examples.batch_at(step) for step in range(8)]
    shared, found = examples_of(store, augment=AugmentOptions()), {}

    def read(step: int) -> None:
        found[step] = shared.batch_at(step)

    threads = [threading.Thread(target=read, args=(step,)) for step in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[step], alone[step]) for step in range(8))


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_rows_of_one(store, processes):
    examples = examples_of(store, batch=6, augment=AugmentOptions())
    whole = examples.batch_at(5)
    parts = [examples.batch_at(5, process, processes) for process in range(processes)]
    assert all(len(part.frames) == 6 // processes for part in parts)
    assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_stores_get_their_share_of_the_rows(tmp_path):
    few = store_of(tmp_path / "few", plain_clip(0, 2))
    many = store_of(tmp_path / "many", *(plain_clip(i, 4) for i in range(1, 6)))
    examples = examples_of((few, 0.3), (many, 0.1), batch=100)
    rows = torch.cat([examples.batch_at(step).frames[:, 0, 0, 0, 0] for step in range(10)])
    assert int((rows < 10).sum()) == 750


@pytest.mark.parametrize(
    ("weights", "rows"), [((1, 1, 1), [334, 333, 333]), ((3, 1), [750, 250]), ((5,), [1000])]
)
def test_shares_add_up(weights, rows):
    assert quotas(weights) == rows


def test_without_a_reference_another_frame_serves(tmp_path):
    store = store_of(tmp_path, plain_clip(0, 3, reference=False))
    examples = examples_of(store, config=RELEASED, batch=30)
    batch = examples.batch_at(0)
    pairs = {
        (int(f), int(r))
        for f, r in zip(batch.frames[:, 0, 0, 0, 0], batch.reference[:, 0, 0, 0], strict=True)
    }
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}
    assert batch.labels is None
    assert set(batch.maps) == {"depth", "normal", "render"}


def test_in_phase_two_the_reference_lies_outside_of_the_window_where_it_can(tmp_path):
    store = store_of(tmp_path, plain_clip(0, 4, reference=False))
    batch = examples_of(store, config=RELEASED, window=3, batch=20).batch_at(0)
    windows = batch.frames[:, :, 0, 0, 0].tolist()
    assert {
        (window[0], int(still)) for window, still in zip(windows, batch.reference[:, 0, 0, 0], strict=True)
    } == {
        (0, 3),
        (1, 0),
    }


def test_short_clips_are_left_out_and_counted(store):
    examples = examples_of(store, window=5)
    assert examples.describe() == f"{store.folder}: 2 clips, 2 windows of 5 frames; 1 clips are too short"


def test_an_empty_store_is_refused(tmp_path):
    (tmp_path / "index.json").write_text('{"version": 1, "clips": [], "shards": {}}')
    with pytest.raises(ValueError, match="holds no clips"):
        examples_of(ClipStore(tmp_path))


def test_windows_longer_than_every_clip_are_refused(store):
    with pytest.raises(ValueError, match="no clip of .* has 7 consecutive frames .the longest has 6."):
        examples_of(store, window=7)


def test_single_pictures_make_no_window(tmp_path):
    store = store_of(tmp_path, plain_clip(0, 4, fps=0.0))
    assert examples_of(store).batch_at(0).frames.shape[1] == 1
    with pytest.raises(ValueError, match="single pictures without an order"):
        examples_of(store, window=2)


def test_a_clip_without_a_map_is_named(tmp_path):
    clip = plain_clip(0, 2)
    short = replace(clip, maps={name: value for name, value in clip.maps.items() if name != "warp"})
    with pytest.raises(
        ValueError, match="clip 'clip0' of .* lacks the map warp, which the model 'tiny' reads"
    ):
        examples_of(store_of(tmp_path, short))


def test_a_warp_without_its_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lacks the picture that its warp was made from"):
        examples_of(store_of(tmp_path, plain_clip(0, 3, reference=False)))


def test_another_size_is_refused(tmp_path):
    store = store_of(tmp_path, plain_clip(0, 2, side=32))
    with pytest.raises(ValueError, match="is 32x32 pixels, the model 'tiny' needs a shorter side of 64"):
        examples_of(store)


def test_stores_of_two_sizes_are_refused(tmp_path):
    square, wide = plain_clip(0, 2), plain_clip(1, 2, side=128)
    wide = replace(
        wide,
        frames=wide.frames[..., :SIDE, :],
        maps={name: value[..., :SIDE, :] for name, value in wide.maps.items()},
        reference=wide.reference[..., :SIDE, :],
    )
    stores = store_of(tmp_path / "square", square), store_of(tmp_path / "wide", wide)
    with pytest.raises(ValueError, match="64x64 in .*square and 128x64 in .*wide"):
        examples_of(*stores)


def test_flips_need_what_clipping_took_from_the_normals(store):
    with pytest.raises(ValueError, match="lacks normal_left, which mirroring needs"):
        examples_of(store, augment=AugmentOptions(flip=0.5))


def test_a_share_too_small_for_any_row_is_refused(tmp_path):
    stores = [(store_of(tmp_path / str(i), plain_clip(i, 2)), weight) for i, weight in enumerate((1.0, 1e-5))]
    with pytest.raises(ValueError, match="is under one row in 1000"):
        examples_of(*stores)


def test_rows_that_do_not_split_among_processes_are_refused(store):
    with pytest.raises(ValueError, match="batch=4 does not split among 3 processes"):
        examples_of(store).batch_at(0, 0, 3)


def test_a_damaged_shard_is_named(tmp_path):
    store = store_of(tmp_path, plain_clip(0, 3))
    shard = next(tmp_path.glob("*.safetensors"))
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size // 2)
    with pytest.raises(ValueError, match=rf"{shard.name} is damaged or missing"):
        examples_of(store).batch_at(0)


def test_orders_of_different_epochs_and_stores_differ(tmp_path):
    stores = [store_of(tmp_path / str(i), *(plain_clip(j, 9) for j in range(5))) for i in range(2)]
    examples = examples_of(*stores)
    orders = [tuple(examples._order(store, again)) for store in range(2) for again in range(3)]
    assert len(set(orders)) == 6
    assert all(np.array_equal(np.sort(order), np.arange(45)) for order in orders)
