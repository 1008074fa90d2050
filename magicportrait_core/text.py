"""The text embedding of the one prompt that the model knows, from CLIP-L in a file that the user has."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from .models.config import ModelConfig
from .weight_files import read_tensors

PROMPT = "A close up of a person."
# What SD 1.5's tokenizer makes of the prompt, so that its files are not needed: start, "a", "close", "up",
# "of", "a", "person", ".", end, and ends up to 77. Printed by transformers' CLIPTokenizer on the vocabulary
# in ComfyUI (comfy/sd1_tokenizer), whose own tokenizer gives the same.
PROMPT_TOKENS = (49406, 320, 2660, 705, 539, 320, 2533, 269, *(49407,) * 69)
CLIP_WIDTH = 768  # of CLIP-L's embeddings
HEAD_SIZE = 64  # of every CLIP text encoder
TEXT_KEY = "text"  # of an embedding in a file of its own
EXPECTED = "expected CLIP-L (clip_l.safetensors) or a whole SD 1.5 checkpoint"

_INNER = re.compile(
    r"^(?:(?:cond_stage_model|text_encoders\.clip_l|clip_l)\.)?(?:transformer\.)?(?:text_model\.)?"
    r"((?:embeddings\.(?:token|position)_embedding|encoder\.layers\.\d+\..+|final_layer_norm)\.(?:weight|bias))$"
)


@torch.no_grad()
def embed_prompt(path: str | Path) -> Tensor:  # (1, 77, 768) float32
    """The embedding of PROMPT: the last layer with the final norm (facts a.5), from CLIP-L's weights.

    Reads clip_l.safetensors, a transformers file or a whole SD 1.5 checkpoint. Raises FileNotFoundError or
    ValueError with one sentence for a missing, damaged or foreign file.
    """
    from transformers import CLIPTextModel

    path = _weight_file(Path(path))
    state = {
        match[1]: value.float()
        for name, value in read_tensors(path, lambda name: _INNER.match(name) is not None).items()
        if (match := _INNER.match(name))
    }
    config = _config_of(state, path.name)
    with torch.device("meta"):
        encoder = CLIPTextModel(config)
    expected = encoder.state_dict()
    prefix = "text_model." if any(name.startswith("text_model.") for name in expected) else ""  # up to 4.x
    state = {prefix + name: value for name, value in state.items()}
    missing = sorted(expected.keys() - state.keys() - {"text_model.embeddings.position_ids"})
    if missing:
        raise ValueError(f"{path.name} lacks {missing[0]!r}; {EXPECTED}")
    encoder.load_state_dict(state, strict=True, assign=True)
    _restore_positions(encoder, len(PROMPT_TOKENS))
    tokens = torch.tensor([PROMPT_TOKENS])
    return encoder.eval()(input_ids=tokens).last_hidden_state


def read_embedding(path: str | Path) -> Tensor:  # (1, N, D) float32
    """An embedding that was saved before: the tensor `text` of a .safetensors file, or its only tensor."""
    tensors = read_tensors(Path(path))
    found = tensors.get(TEXT_KEY, next(iter(tensors.values())) if len(tensors) == 1 else None)
    if found is None or found.ndim not in (2, 3):
        raise ValueError(
            f"{Path(path).name} holds no text embedding; expected a tensor {TEXT_KEY!r} of (1, 77, 768), "
            "or give CLIP-L itself"
        )
    return found.float() if found.ndim == 3 else found.float()[None]


def check_text(text: Tensor, config: ModelConfig) -> None:
    """Raises ValueError unless the embedding (1, N, D) is of the model's text encoder."""
    width = config.unet.text_dim
    if text.ndim != 3 or text.shape[0] != 1 or text.shape[2] != width:
        where = f"from CLIP-L of SD 1.5 for the prompt {PROMPT!r}"
        if width != CLIP_WIDTH:
            where = f"as the model {config.name!r} brings along; leave the text out"
        raise ValueError(f"the text embedding is {tuple(text.shape)}; expected (1, tokens, {width}) {where}")
    if not torch.isfinite(text).all():
        raise ValueError("the text embedding holds values that are not finite numbers; encode it in float32")


def _weight_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("model.safetensors", "pytorch_model.bin"):
        for folder in (path, path / "text_encoder"):
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(f"there is no text encoder in {path}; expected model.safetensors in it")


def _config_of(state: dict[str, Tensor], name: str):
    from transformers import CLIPTextConfig

    layers = {int(match[1]) for key in state if (match := re.match(r"encoder\.layers\.(\d+)\.", key))}
    try:
        vocabulary, width = state["embeddings.token_embedding.weight"].shape
        inner = state["encoder.layers.0.mlp.fc1.weight"].shape[0]
        positions = state["embeddings.position_embedding.weight"].shape[0]
    except KeyError as error:
        raise ValueError(f"{name} holds no CLIP text encoder (no {error}); {EXPECTED}") from None
    if vocabulary <= max(PROMPT_TOKENS) or positions != len(PROMPT_TOKENS):
        raise ValueError(
            f"{name}: a text encoder of {vocabulary} words and {positions} positions, not CLIP's; {EXPECTED}"
        )
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, width // HEAD_SIZE),
        max_position_embeddings=positions,
        hidden_act="quick_gelu",
        eos_token_id=49407,
    )


def _restore_positions(encoder: torch.nn.Module, length: int) -> None:
    """position_ids are not in files and were made on the meta device."""
    for module in encoder.modules():
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(length)[None]
