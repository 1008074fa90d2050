"""The example workflows as nodes and links; make_workflows.py writes them as ComfyUI's files."""

from __future__ import annotations

from dataclasses import dataclass, field

# What the file widgets show until the user chooses; the demo and the tests use these names.
PORTRAIT, DRIVING, TRACK = "portrait.png", "driving.mp4", "magicportrait/track_00001_.safetensors [output]"
SMALL = "small (built in)"
RELEASED = "released"  # models/magicportrait/released
TWO_WORKERS = {"coupling": "independent segments", "parts": 2}
PUBLISHED = {"steps": 20, "guidance_scale": 3.5}  # shown, though 0 would mean the same
PROMPT = "A close up of a person."  # what the released model was trained with


@dataclass(frozen=True)
class Out:
    """An output of another node, by name."""

    node: str
    output: str


@dataclass(frozen=True)
class ModelFile:
    """A file that a node needs; ComfyUI offers to fetch it when it is missing."""

    name: str
    folder: str  # below models
    url: str


@dataclass(frozen=True)
class Node:
    """A node of a graph; inputs that are not named keep their defaults."""

    type: str
    title: str
    column: int
    inputs: dict = field(default_factory=dict)
    width: int = 300
    space: int = 0  # pixels left free below, to stay level with a neighbour
    files: tuple[ModelFile, ...] = ()


@dataclass(frozen=True)
class Graph:
    note: str  # shown in the graph, Markdown
    columns: tuple[str, ...]  # titles of the groups, "" for a column that belongs to the group before it
    nodes: dict[str, Node]


def save_video(title: str, images: Out, prefix: str, column: int, fps: Out, audio: Out | None = None) -> dict:
    """Create Video and Save Video, side by side, for a batch of pictures."""
    key = prefix.rsplit("/", 1)[-1]
    inputs = {"images": images, "fps": fps} | ({"audio": audio} if audio else {})
    return {
        f"{key}_video": Node("CreateVideo", f"Video of {key.replace('_', ' ')}", column, inputs, 240, 314),
        f"{key}_file": Node(
            "SaveVideo",
            title,
            column + 1,
            {"video": Out(f"{key}_video", "VIDEO"), "filename_prefix": prefix},
            300,
        ),
    }


INPUTS = {
    "portrait": Node("LoadImage", "Portrait", 0, {"image": PORTRAIT}),
    "driving": Node("LoadVideo", "Driving video", 0, {"file": DRIVING}),
    "tracker": Node("MagicPortraitLoadTracker", "Head and tracker", 0),
}
VAE_FILE = ModelFile(
    "vae-ft-mse-840000-ema-pruned.safetensors",
    "vae",
    "https://huggingface.co/stabilityai/sd-vae-ft-mse-original/resolve/main/"
    "vae-ft-mse-840000-ema-pruned.safetensors",
)
TEXT_FILE = ModelFile(
    "clip_l.safetensors",
    "text_encoders",
    "https://huggingface.co/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors",
)


def track(column: int, **inputs) -> dict:
    inputs = {"head_tracker": Out("tracker", "head_tracker"), "video": Out("driving", "VIDEO")} | inputs
    return {"track": Node("MagicPortraitTrackVideo", "Track the driver", column, inputs, 320)}


FPS, AUDIO = Out("track", "fps"), Out("track", "audio")


def align(driving: Out, column: int) -> dict:
    inputs = {
        "head_tracker": Out("tracker", "head_tracker"),
        "portrait": Out("portrait", "IMAGE"),
        "driving": driving,
    }
    return {
        "align": Node("MagicPortraitAlignIdentity", "Portrait's head, driver's motion", column, inputs, 320),
    }


def guidance(column: int, **inputs) -> dict:
    return {
        "guidance": Node(
            "MagicPortraitRenderGuidance",
            "Guidance maps",
            column,
            {
                "aligned": Out("align", "aligned"),
                "portrait": Out("portrait", "IMAGE"),
                "portrait_track": Out("align", "portrait_track"),
                **inputs,
            },
            320,
        )
    }


def model(name: str, column: int) -> dict:
    return {"model": Node("MagicPortraitLoadModel", "MagicPortrait", column, {"model": name}, 360)}


def model_files(column: int) -> dict:
    """The released networks, and what the host brings for them."""
    return {
        **model(RELEASED, column),
        "vae": Node("VAELoader", "VAE", column, {"vae_name": VAE_FILE.name}, files=(VAE_FILE,)),
        "clip": Node("CLIPLoader", "Text encoder", column, {"clip_name": TEXT_FILE.name}, files=(TEXT_FILE,)),
        "prompt": Node(
            "CLIPTextEncode", "Prompt of the training", column, {"clip": Out("clip", "CLIP"), "text": PROMPT}
        ),
    }


def features(column: int, **inputs) -> dict:
    inputs = {"model": Out("model", "model"), "guidance": Out("guidance", "guidance")} | inputs
    return {"features": Node("MagicPortraitEncodeGuidance", "Motion features", column, inputs)}


def sampler(column: int, key: str = "sampler", title: str = "Sampler", **inputs) -> dict:
    """With what every model needs."""
    inputs = {
        "model": Out("model", "model"),
        "portrait": Out("portrait", "IMAGE"),
        "features": Out("features", "features"),
    } | inputs
    return {key: Node("MagicPortraitSampler", title, column, inputs, 340)}


def released_sampler(column: int, *names: str, **inputs) -> dict:
    hosts = {"vae": Out("vae", "VAE"), "conditioning": Out("prompt", "CONDITIONING")}
    return sampler(column, *names, **PUBLISHED, **hosts, **inputs)


VAE_DECODE = "VAEDecode", "IMAGE", {"samples": Out("aggregate", "latent"), "vae": Out("vae", "VAE")}
PORTRAIT_DECODE = (
    "MagicPortraitDecode",
    "image",
    {"latent": Out("aggregate", "latent"), "model": Out("model", "model"), "warp": Out("warp", "warp")},
)


def timeline(column: int, *samplers: str, decode: tuple[str, str, dict]) -> dict:
    """Segments to frames."""
    segments = {f"segments.segments{i}": Out(key, "segments") for i, key in enumerate(samplers)}
    kind, _, inputs = decode
    return {
        "aggregate": Node("MagicPortraitTemporalAggregate", "One timeline", column, segments),
        "decode": Node(kind, "Frames", column, inputs),
    }


def reenactment_video(column: int, decode: tuple[str, str, dict]) -> dict:
    """The frames with the driver's sound and rate, in two columns."""
    frames = Out("decode", decode[1])
    return save_video("Save reenactment", frames, "magicportrait/reenactment", column, FPS, AUDIO)


def result(column: int, *samplers: str) -> dict:
    """Segments to a video, by the VAE."""
    return timeline(column, *samplers, decode=VAE_DECODE) | reenactment_video(column, VAE_DECODE)


def warp(column: int) -> dict:
    return {
        "warp": Node(
            "MagicPortraitFlowWarpPreview",
            "Move the portrait",
            column,
            {
                "portrait": Out("portrait", "IMAGE"),
                "portrait_track": Out("align", "portrait_track"),
                "aligned": Out("align", "aligned"),
            },
            300,
        ),
    }


def map_videos(column: int) -> dict:
    nodes = {}
    for name in ("depth", "normal", "render"):
        nodes |= save_video(f"Save {name}", Out("guidance", name), f"magicportrait/{name}", column, FPS)
    return nodes


GRAPHS = {
    "portrait_warp_preview": Graph(
        """
        ## A portrait moves
        1. **Portrait**: choose a picture of one person.
        2. **Driving video**: choose a clip of a face; sound and frame rate are kept.
        3. Run. Nothing is downloaded, no GPU and no further package is needed.

        This is the one to begin with: the photo itself is moved, and stays as sharp as it is.
        *Portrait's head, driver's motion* has a strength for the head, jaw, mouth, brows, lids and gaze:
        0 keeps the portrait's own, 1 follows the driver.
        """,
        ("Inputs", "Track", "Align", "Warp and render", "Results", "", "Geometry", ""),
        {
            **INPUTS,
            **track(1),
            **align(Out("track", "track"), 2),
            **warp(3),
            **guidance(3),
            **save_video(
                "Save moving portrait", Out("warp", "image"), "magicportrait/portrait_moves", 4, FPS, AUDIO
            ),
            **save_video("Save tracked head", Out("track", "overlay"), "magicportrait/tracked_head", 4, FPS),
            **map_videos(6),
        },
    ),
    "guidance_maps": Graph(
        """
        ## Depth, normals and shaded head
        Renders the portrait's head with the driver's motion as three videos, for looking at the geometry or
        as control images of other models. **style** shows pictures for people or the exact numbers.
        """,
        ("Inputs", "Track", "Align", "Render", "Results", ""),
        {
            **INPUTS,
            **track(1),
            **align(Out("track", "track"), 2),
            **guidance(3),
            **map_videos(4),
        },
    ),
    "save_track": Graph(
        """
        ## Save a track
        Tracks the face of a clip once and keeps the motion as a small file, for any number of portraits.
        Open **reuse_saved_track** next.
        """,
        ("Inputs", "Track", "Results", ""),
        {
            "driving": INPUTS["driving"],
            "tracker": INPUTS["tracker"],
            **track(1),
            "save": Node("MagicPortraitSaveTrack", "Save the track", 2, {"track": Out("track", "track")}),
            **save_video("Save tracked head", Out("track", "overlay"), "magicportrait/tracked_head", 2, FPS),
        },
    ),
    "reuse_saved_track": Graph(
        """
        ## Use a saved track
        Moves a portrait with a track that **save_track** wrote: the clip is not needed any more. Press R when
        the file is not listed yet.
        """,
        ("Inputs", "Align", "Warp", "Results", ""),
        {
            "portrait": INPUTS["portrait"],
            "tracker": INPUTS["tracker"],
            "load": Node("MagicPortraitLoadTrack", "Saved track", 0, {"file": TRACK}),
            **align(Out("load", "track"), 1),
            **warp(2),
            **save_video(
                "Save moving portrait",
                Out("warp", "image"),
                "magicportrait/portrait_moves",
                3,
                Out("load", "fps"),
            ),
        },
    ),
    "reenactment_small": Graph(
        """
        ## A portrait is re-enacted, with the model that is built in
        1. **Portrait**: choose a picture of one person.
        2. **Driving video**: choose a clip of a face; sound and frame rate are kept.
        3. Run. Nothing is downloaded, no GPU is needed.

        *Move the portrait* bends the picture itself; the diffusion model sees that together with the
        geometry, and repairs what the picture could not show. Compare *Save moving portrait* (bent only)
        with *Save reenactment*: the small model may change only what keeps the contrast of the bent picture,
        and few people see a difference. **portrait_warp_preview** is the same without it, **reenactment**
        uses the large released one.
        """,
        ("Inputs", "Track", "Align", "Geometry", "Sample", "Results", "", "Guidance", ""),
        {
            **INPUTS,
            **model(SMALL, 0),
            **track(1),
            **align(Out("track", "track"), 2),
            **warp(3),
            **guidance(3),
            **features(4, warp=Out("warp", "warp")),
            **sampler(4),
            **timeline(4, "sampler", decode=PORTRAIT_DECODE),
            **reenactment_video(5, PORTRAIT_DECODE),
            **save_video(
                "Save moving portrait", Out("warp", "image"), "magicportrait/portrait_moves", 5, FPS, AUDIO
            ),
            **save_video("Save tracked head", Out("track", "overlay"), "magicportrait/tracked_head", 5, FPS),
            **map_videos(7),
        },
    ),
    "reenactment": Graph(
        """
        ## A portrait is re-enacted by the diffusion model
        1. **MagicPortrait**: put the released files into the folder `models/magicportrait/released`:
           `denoising_unet.pth`, `motion_module-*.pth`, `reference_unet.pth`, `guidance_encoder_depth.pth`,
           `guidance_encoder_normal.pth` and `guidance_encoder_render.pth`, from the folder `ckpts` of
           huggingface.co/mengtingwei/MagicPortrait. Models of your own go into a folder beside it.
        2. **VAE** of SD 1.5 in `models/vae`, **Text encoder** CLIP-L in `models/text_encoders`.
        3. **Portrait** and **Driving video**: faces that fill a good part of the picture, as in the training.

        Look at **portrait_warp_preview** first: it shows in seconds whether the motion is right.
        The picture of this template shows a portrait and its guidance, not a result.
        """,
        ("Inputs", "Model files", "Track", "Align", "Guidance", "Sample", "Result", ""),
        {
            **INPUTS,
            **model_files(1),
            **track(2),
            **align(Out("track", "track"), 3),
            **guidance(4),
            **features(5),
            **released_sampler(5),
            **result(6, "sampler"),
        },
    ),
    "reenactment_long": Graph(
        """
        ## A long video
        Memory depends on the window, not on the length. **Sampler** saves its state every 2 steps
        (`save_every`): when you cancel the render, or ComfyUI is stopped, run the same workflow again. It
        goes on from there, with the identical result, as long as the seed stays *fixed*.

        - **Track the driver** and **Guidance maps** show 64 frames as pictures; the model gets all of them.
        - Windows share 4 frames (`overlap`), which joins them more smoothly and takes a third longer.
        - What grows with the length are the finished frames, in ordinary memory: 3 MB each at 512 x 512, so
          5 GB a minute. For more, take one piece after the other: `start_frame` and `frame_limit` of
          **Track the driver**.
        - Files and folders are those of **reenactment**.
        """,
        ("Inputs", "Model files", "Track", "Align", "Guidance", "Sample", "Result", ""),
        {
            **INPUTS,
            **model_files(1),
            **track(2, overlay_frames=64),
            **align(Out("track", "track"), 3),
            **guidance(4, image_frames=64),
            **features(5),
            **released_sampler(5, save_every=2, overlap=4),
            **result(6, "sampler"),
        },
    ),
    "reenactment_two_workers": Graph(
        """
        ## Two workers, one timeline
        Each sampler renders its part of the clip's windows (`part` of `parts`), and **One timeline** joins
        them. Windows are independent segments here, so that workers need not talk to each other; they are
        blended where they overlap.

        On two machines: open this on both, with the same inputs and the same seed. Keep one sampler on each
        and connect it to *Save Segments*. Copy the files into one machine's `input` folder, read them with
        two *Load Segments* and connect these to **One timeline**. The noise belongs to the frame, so it does
        not matter who renders what.
        """,
        ("Inputs", "Model files", "Track", "Align", "Guidance", "Sample", "Result", ""),
        {
            **INPUTS,
            **model_files(1),
            **track(2),
            **align(Out("track", "track"), 3),
            **guidance(4),
            **features(5),
            **released_sampler(5, "first", "Worker 1 of 2", coupling="independent segments", part=1, parts=2),
            **released_sampler(
                5, "second", "Worker 2 of 2", coupling="independent segments", part=2, parts=2
            ),
            **result(6, "first", "second"),
        },
    ),
}
