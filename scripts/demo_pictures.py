"""Pictures and videos of the demo: where its inputs come from, how its results are laid out."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, ImageSequence, UnidentifiedImageError

PORTRAIT_SIDE = 512  # pixels
ASTRONAUT_CROP = (95, 4, 359, 268)  # left, top, right, bottom: head and shoulders in the 512-pixel photo
DRIVING_PACKAGE = "comfyui_workflow_templates_media_video"
DRIVING_CLIP = "video_ltx2_3_id_lora-1.webp"  # a man who talks and nods
ANIMATIONS = (".webp", ".gif", ".apng", ".png")
DRIVING_START = 12  # frames: before, he is small in the picture
PANEL_SIDE = 384  # pixels
LABEL_HEIGHT = 26
BACKGROUND = (24, 26, 30)


class PictureError(Exception):
    """An input that cannot be used; one sentence."""


def write_portrait(source: Path | None, target: Path) -> None:
    """A portrait as PNG: the given picture, else scikit-image's photo of the astronaut Eileen Collins."""
    if source is not None:
        ImageOps.exif_transpose(open_picture(source)).save(target)
        return
    from skimage import data

    photo = Image.fromarray(data.astronaut()).crop(ASTRONAUT_CROP)
    photo.resize((PORTRAIT_SIDE, PORTRAIT_SIDE), Image.Resampling.LANCZOS).save(target)


def open_picture(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
        return picture
    except FileNotFoundError:
        raise PictureError(f"{path} does not exist.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise PictureError(
            f"{path} is not a picture that can be read: use a PNG or JPEG ({error})."
        ) from None


def place_driving(source: Path | None, folder: Path) -> Path:
    """The driving clip inside a folder: videos as they are, animated pictures as mp4."""
    if source is not None and source.suffix.lower() not in ANIMATIONS:
        if not source.is_file():
            raise PictureError(f"{source} does not exist.")
        target = folder / f"driving{source.suffix.lower()}"
        shutil.copyfile(source, target)
        return target
    target = folder / "driving.mp4"
    write_driving(target, source)
    return target


def write_driving(target: Path, animation: Path | None = None, max_frames: int = 0) -> None:
    """An animated picture as mp4, else a preview clip of ComfyUI's templates; max_frames 0 is all."""
    frames, fps = animation_frames(animation or template_clip(), 0 if animation else DRIVING_START)
    write_video(target, frames[:max_frames] if max_frames else frames, fps)


def template_clip() -> Path:
    """The animated preview in ComfyUI's template media packages that drives the demo."""
    spec = importlib.util.find_spec(DRIVING_PACKAGE)
    if spec is not None and spec.submodule_search_locations:
        path = Path(next(iter(spec.submodule_search_locations))) / "templates" / DRIVING_CLIP
        if path.is_file():
            return path
    raise PictureError(
        f"{DRIVING_CLIP} is not in this ComfyUI's template packages: name a clip with --driver FILE."
    )


def animation_frames(path: Path, start: int) -> tuple[list[np.ndarray], Fraction]:
    """Frames (H, W, 3) and frame rate of an animated picture."""
    animation = open_picture(path)
    frames, milliseconds = [], 0
    for frame in ImageSequence.Iterator(animation):
        frame.load()
        milliseconds += frame.info.get("duration") or 40
        frames.append(np.asarray(frame.convert("RGB")))
    return frames[start:], Fraction(1000 * len(frames), milliseconds).limit_denominator(1001)


def read_video(path: Path) -> Iterator[np.ndarray]:
    """Frames (H, W, 3), uint8."""
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except FileNotFoundError:
        raise PictureError(f"{path} does not exist.") from None
    except (av.error.FFmpegError, IndexError) as error:
        raise PictureError(f"{path} is not a video that can be read: use an mp4 ({error}).") from None


def video_fps(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        return container.streams.video[0].average_rate or Fraction(25)


def write_video(path: Path, frames: Iterable[np.ndarray], fps: Fraction) -> None:
    """H.264 that every player shows; an odd last row or column is dropped."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16"})
        stream.pix_fmt = "yuv420p"
        height = width = 0
        for pixels in frames:
            if not height:
                height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
                stream.width, stream.height = width, height
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def panel(pixels: np.ndarray, label: str, side: int = PANEL_SIDE) -> Image.Image:
    """A picture fitted into a square under its name."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    if max(picture.size) < side:
        scale = side / max(picture.size)
        picture = picture.resize([round(scale * n) for n in picture.size], Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (side, side + LABEL_HEIGHT), BACKGROUND)
    canvas.paste(picture, ((side - picture.width) // 2, LABEL_HEIGHT + (side - picture.height) // 2))
    draw = ImageDraw.Draw(canvas)
    draw.text(
        (8, LABEL_HEIGHT // 2), label, font=ImageFont.load_default(15), fill=(225, 228, 232), anchor="lm"
    )
    return canvas


def grid(panels: list[Image.Image], columns: int) -> Image.Image:
    """Panels of one size in rows, left to right."""
    width, height = panels[0].size
    rows = -(-len(panels) // columns)
    canvas = Image.new("RGB", (columns * width, rows * height), BACKGROUND)
    for i, picture in enumerate(panels):
        canvas.paste(picture, (i % columns * width, i // columns * height))
    return canvas


def side_by_side(columns: dict[str, list[np.ndarray]]) -> Iterator[np.ndarray]:
    """One picture per frame with every column as a panel; a column of one frame stays."""
    count = max(len(frames) for frames in columns.values())
    for i in range(count):
        panels = [panel(frames[min(i, len(frames) - 1)], label) for label, frames in columns.items()]
        yield np.asarray(grid(panels, 3))


def contact_sheet(columns: dict[str, list[np.ndarray]], rows: int = 5, side: int = 256) -> Image.Image:
    """Frames spread over the clip, one row each."""
    count = max(len(frames) for frames in columns.values())
    picked = [round(i * (count - 1) / max(1, rows - 1)) for i in range(min(rows, count))]
    panels = []
    for i in picked:
        for label, frames in columns.items():
            name = label if len(frames) == 1 else f"{label}, frame {i + 1}"
            panels.append(panel(frames[min(i, len(frames) - 1)], name, side))
    return grid(panels, len(columns))


def write_documentation(root: Path, columns: dict[str, list[np.ndarray]]) -> None:
    """The moving picture of the README and the pictures that ComfyUI's template browser shows."""
    shown = ("portrait", "driver", "normal", "flow preview", "diffusion result")
    count = max(len(frames) for frames in columns.values())
    strips = [
        grid(
            [panel(columns[label][min(i, len(columns[label]) - 1)], label, 224) for label in shown],
            len(shown),
        )
        for i in range(count)
    ]
    (root / "docs").mkdir(exist_ok=True)
    strips[0].save(
        root / "docs" / "demo.webp",
        save_all=True,
        append_images=strips[1:],
        duration=67,
        loop=0,
        quality=60,
    )
    templates = {
        "portrait_warp_preview": ("driver, tracked head", "flow preview"),
        "guidance_maps": ("depth", "normal"),
        "save_track": ("driver, tracked head",),
        "reuse_saved_track": ("portrait", "flow preview"),
        "reenactment_small": ("portrait", "diffusion result"),
        # What goes into the paper's networks; their weights are not here, so neither are their results.
        "reenactment": ("portrait", "normal"),
        "reenactment_long": ("driver, tracked head", "normal"),
        "reenactment_two_workers": ("normal", "depth"),
    }
    for name, labels in templates.items():
        tiles = [crop_tile(columns[label][-1], len(labels)) for label in labels]
        grid(tiles, len(tiles)).save(root / "workflows" / f"{name}.jpg", quality=85)


def crop_tile(pixels: np.ndarray, parts: int, side: int = 400) -> Image.Image:
    """The middle of a picture, so that `parts` of them side by side make a square."""
    picture = Image.fromarray(pixels)
    short = min(picture.size)
    picture = picture.resize([round(side * n / short) for n in picture.size], Image.Resampling.LANCZOS)
    width = side // parts
    left, top = (picture.width - width) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + width, top + side))
