"""Clips come back as they were stored, from shards that are whole; damage is named, writers can be joined."""

from __future__ import annotations

import errno
import json
import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.clip_store import Clip, ClipStore, ClipWriter, merge_indices, read_index, verify, write_index


def clip(name: str, frames: int = 5, size: tuple[int, int] = (16, 24), seed: int = 0) -> Clip:
    """Smooth pictures (JPEG can keep them), frame i of which is i levels brighter than frame 0."""
    rows = torch.arange(size[0])[:, None] * 3 + torch.arange(size[1])[None] * 2 + seed
    one = torch.stack((rows, rows + 20, 200 - rows)).clamp(0, 255)
    pictures = torch.stack([(one + i).clamp(0, 255) for i in range(frames)]).byte()
    maps = {
        "depth": pictures[:, :1],
        "normal": pictures.flip(1),
        "warp": pictures,
        "sources": pictures[:, :1] % 6,
    }
    return Clip(name, pictures, maps, pictures[0], 25.0, {"video": "a.mp4"})


def same(first: Clip, second: Clip) -> bool:
    pairs = [(first.frames, second.frames), (first.reference, second.reference)]
    pairs += [(first.maps[name], second.maps[name]) for name in first.maps]
    return first.maps.keys() == second.maps.keys() and all(torch.equal(a, b) for a, b in pairs)


def store_of(folder: Path, *clips: Clip, **options) -> ClipStore:
    with ClipWriter(folder, **options) as writer:
        for one in clips:
            writer.add(one)
    return ClipStore(folder)


@pytest.mark.parametrize("encoding", ["raw", "lossless"])
def test_clips_come_back_exactly(tmp_path, encoding):
    first, second = clip("a"), replace(clip("b", 3, (8, 8), 7), reference=None)
    store = store_of(tmp_path, first, second, encoding=encoding)
    assert same(store.read(0), first)
    back = store.read(1)
    assert torch.equal(back.frames, second.frames) and back.reference is None
    assert (back.fps, back.notes, back.name) == (25.0, {"video": "a.mp4"}, "b")
    assert torch.equal(store.read(0, [3, 1]).frames, first.frames[[3, 1]])
    assert torch.equal(store.read(0, [3, 1]).maps["sources"], first.maps["sources"][[3, 1]])
    assert list(store.read(0, [3], ["depth"]).maps) == ["depth"]
    with pytest.raises(ValueError, match="clip 'a' has no map 'render'; it has depth, normal, warp, sources"):
        store.read(0, [3], ["render"])


def test_jpeg_keeps_photos_within_a_few_levels_and_maps_exactly(tmp_path):
    whole = clip("a", size=(64, 64))
    back = store_of(tmp_path, whole, encoding="jpeg").read(0, [4, 0])
    assert torch.equal(back.maps["sources"], whole.maps["sources"][[4, 0]])
    assert torch.equal(back.maps["normal"], whole.maps["normal"][[4, 0]])
    for value, truth in ((back.frames, whole.frames[[4, 0]]), (back.reference, whole.reference)):
        assert value.shape == truth.shape
        assert (value.int() - truth.int()).abs().max() <= 4


def test_latents_are_kept_beside_the_pictures(tmp_path):
    latents = torch.randn(5, 4, 2, 3).half()
    store = store_of(
        tmp_path, replace(clip("a"), latents=latents, reference_latents=latents[0]), encoding="jpeg"
    )
    assert torch.equal(store.read(0, [2]).latents, latents[2:3])
    assert torch.equal(store.read(0, [2]).reference_latents, latents[0])
    with pytest.raises(ValueError, match=r"latents of clip 'b' are \(4, 4, 2, 3\).* for each of 5 frames"):
        ClipWriter(tmp_path).add(replace(clip("b"), latents=latents[:4], reference_latents=latents[0]))


def test_a_stopped_writer_goes_on(tmp_path):
    writer = ClipWriter(tmp_path, shard_bytes=1)  # a shard per clip
    writer.add(clip("a"))
    unfinished = ClipWriter(tmp_path)
    unfinished.add(clip("b"))  # and killed: never flushed
    (tmp_path / ".shard-00001.safetensors.77.part").write_bytes(b"half")
    with ClipWriter(tmp_path) as again:
        assert again.names == {"a"}
        with pytest.raises(ValueError, match="clip 'a' is in .* already"):
            again.add(clip("a"))
        again.add(clip("b", seed=3))
    assert [info.name for info in ClipStore(tmp_path)] == ["a", "b"]
    assert same(ClipStore(tmp_path).read(1), clip("b", seed=3))
    assert not list(tmp_path.glob(".*.part"))


def write_alone(folder: Path, prefix: str, name: str) -> None:
    store_of(folder, clip(name, seed=ord(name)), prefix=prefix)


def test_writers_at_the_same_time_are_joined(tmp_path):
    writers = [ClipWriter(tmp_path, prefix=prefix) for prefix in ("part0", "part1")]
    for writer, name in zip(writers, "ba", strict=True):
        writer.add(clip(name, seed=ord(name)))
    for writer in writers:
        writer.flush()
    before = [ClipStore(tmp_path).read(i) for i in range(2)]
    merge_indices(tmp_path)
    assert [path.name for path in tmp_path.glob("index*")] == ["index.json"]
    store = ClipStore(tmp_path)
    assert [info.name for info in store] == ["a", "b"]  # by name, whoever wrote them first
    for i, name in enumerate("ab"):
        assert same(store.read(i), clip(name, seed=ord(name))) and same(before[i], store.read(i))
    write_alone(tmp_path, "part0", "c")  # begun again: a new shard, not the old one's place
    assert same(ClipStore(tmp_path).read(1), clip("b", seed=ord("b")))
    assert verify(tmp_path) == []


def test_two_writers_with_one_clip_name_are_refused(tmp_path):
    first, second = ClipWriter(tmp_path, prefix="x"), ClipWriter(tmp_path, prefix="y")
    for writer in (first, second):
        writer.add(clip("same"))
        writer.flush()
    with pytest.raises(ValueError, match="clip 'same', which another index of the folder has too"):
        ClipStore(tmp_path)


def test_damage_is_named_and_mended_by_deleting_and_writing_again(tmp_path):
    store_of(tmp_path, *(clip(name) for name in "abc"), shard_bytes=1)
    assert verify(tmp_path) == []
    turned = bytearray((tmp_path / "shard-00000.safetensors").read_bytes())
    turned[-1] ^= 1
    (tmp_path / "shard-00000.safetensors").write_bytes(turned)
    cut = (tmp_path / "shard-00001.safetensors").read_bytes()[:-100]
    (tmp_path / "shard-00001.safetensors").write_bytes(cut)
    (tmp_path / "shard-00002.safetensors").unlink()
    one, two, three = verify(tmp_path)
    assert "shard-00000" in one and "another checksum" in one
    assert "shard-00001" in two and f"has {len(cut)} bytes, {len(cut) + 100} were written" in two
    assert "shard-00002" in three and "is missing" in three and "(1 clips)" in three
    assert len(verify(tmp_path, hashes=False)) == 2
    store = ClipStore(tmp_path)
    for number in (1, 2):
        with pytest.raises(ValueError, match=f"shard-0000{number}.* is damaged or missing .*delete it"):
            store.read(number)
    for number in (0, 1):
        (tmp_path / f"shard-0000{number}.safetensors").unlink()
    again = store_of(tmp_path, *(clip(name, seed=9) for name in "abc"))
    assert verify(tmp_path) == []
    assert all(same(again.read(i), clip("abc"[i], seed=9)) for i in range(3))


def test_a_damaged_picture_is_named(tmp_path):
    store_of(tmp_path, clip("a"), encoding="lossless")
    shard = tmp_path / "shard-00000.safetensors"
    data = shard.read_bytes()
    shard.write_bytes(data[: -len(data) // 2] + bytes(len(data) // 2))
    with pytest.raises(ValueError, match="shard-00000.* is damaged or missing"):
        ClipStore(tmp_path).read(0)


def test_foreign_folders_and_versions(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no index.json; make the data with"):
        ClipStore(tmp_path)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"index.json cannot be read \(not an index of clips\)"):
        ClipStore(tmp_path)
    with pytest.raises(ValueError, match="not an index of clips"):
        ClipWriter(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"version": 7, "clips": []}))
    with pytest.raises(ValueError, match="version 7, this code reads 1"):
        ClipStore(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be made"):
        ClipWriter(tmp_path / "file" / "data")


def test_an_index_written_before_there_were_checksums_is_read(tmp_path):
    store_of(tmp_path, clip("a"))
    values = json.loads((tmp_path / "index.json").read_text())
    del values["shards"], values["format"], values["clips"][0]["formats"], values["clips"][0]["latents"]
    (tmp_path / "index.json").write_text(json.dumps(values))
    assert same(ClipStore(tmp_path).read(0), clip("a")) and verify(tmp_path) == []
    write_index(tmp_path, read_index(tmp_path))
    assert same(ClipStore(tmp_path).read(0), clip("a"))


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    store_of(tmp_path, clip("a"))
    monkeypatch.setattr(os, "fsync", full)
    writer = ClipWriter(tmp_path)
    writer.add(clip("b"))
    with pytest.raises(OSError, match="shard-00001.* cannot be written .*No space.*; free some space"):
        writer.flush()
    monkeypatch.undo()
    assert [info.name for info in ClipStore(tmp_path)] == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "shard-00000.safetensors"]


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_does_not_fit_together_is_refused(tmp_path):
    good, writer = clip("a"), ClipWriter(tmp_path)
    with pytest.raises(ValueError, match=r"depth of clip 'a' is \(4, 1, 16, 24\).*\(5, 1, 16, 24\)"):
        writer.add(replace(good, maps={"depth": good.maps["depth"][:4]}))
    with pytest.raises(ValueError, match="map 'hair' of clip 'a' is not known"):
        writer.add(replace(good, maps={"hair": good.maps["depth"]}))
    with pytest.raises(ValueError, match="frames of clip 'a' .* torch.float32"):
        writer.add(replace(good, frames=good.frames.float()))
    with pytest.raises(ValueError, match="encoding='gif'; expected one of raw, lossless, jpeg"):
        ClipWriter(tmp_path, encoding="gif")
    with pytest.raises(IndexError, match="frame 5 of clip 'a'; expected some of 0 to 4"):
        store_of(tmp_path, good).read(0, [5])


def test_threads_forks_and_copies_read_alike(tmp_path):
    store = store_of(tmp_path, *(clip(name, seed=ord(name)) for name in "abcd"), shard_bytes=1)
    truth = [store.read(i) for i in range(4)]
    results = []

    def work() -> None:
        results.append(all(same(store.read(i), truth[i]) for _ in range(20) for i in range(4)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert same(pickle.loads(pickle.dumps(store)).read(2), truth[2])
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            os._exit(0 if same(store.read(3), truth[3]) else 1)
        assert os.waitpid(child, 0)[1] == 0
