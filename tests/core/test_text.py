"""CLIP in a file -> the embedding of the prompt."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import layer_norm

from magicportrait_core.models.config import SD15, SMALL
from magicportrait_core.text import PROMPT_TOKENS, check_text, embed_prompt, read_embedding

WIDTH, LAYERS = 64, 2


def clip_weights(layer_scale: float) -> dict[str, Tensor]:
    """A text encoder under the names of transformers; layers of scale 0 hand everything on."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    weights = {
        "embeddings.token_embedding.weight": random(49408, WIDTH).half(),
        "embeddings.position_embedding.weight": random(77, WIDTH).half(),
        "final_layer_norm.weight": random(WIDTH),
        "final_layer_norm.bias": random(WIDTH),
    }
    linears = {f"self_attn.{n}_proj": (WIDTH, WIDTH) for n in ("q", "k", "v", "out")}
    linears |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
    for i in range(LAYERS):
        for name, (out, inner) in linears.items():
            weights[f"encoder.layers.{i}.{name}.weight"] = layer_scale * random(out, inner) / inner**0.5
            weights[f"encoder.layers.{i}.{name}.bias"] = layer_scale * random(out)
        for name in ("layer_norm1", "layer_norm2"):
            weights[f"encoder.layers.{i}.{name}.weight"] = 1 + 0.1 * random(WIDTH)
            weights[f"encoder.layers.{i}.{name}.bias"] = 0.1 * random(WIDTH)
    return weights


def named(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def test_the_embedding_is_the_norm_of_tokens_and_positions_when_layers_do_nothing(tmp_path):
    weights = clip_weights(layer_scale=0)
    save_file(named(weights, "text_model."), tmp_path / "clip_l.safetensors")
    tokens = weights["embeddings.token_embedding.weight"][list(PROMPT_TOKENS)].float()
    tokens = tokens + weights["embeddings.position_embedding.weight"].float()
    expected = layer_norm(
        tokens, (WIDTH,), weights["final_layer_norm.weight"], weights["final_layer_norm.bias"], 1e-5
    )
    torch.testing.assert_close(embed_prompt(tmp_path / "clip_l.safetensors")[0], expected)


def test_every_layout_of_the_file_gives_the_same_and_layers_matter(tmp_path):
    weights = clip_weights(layer_scale=1)
    save_file(
        named(weights, "text_model.") | {"text_projection.weight": torch.eye(WIDTH)},
        tmp_path / "clip_l.safetensors",
    )
    save_file(
        named(weights, "cond_stage_model.transformer.text_model.")
        | {"model.diffusion_model.x": torch.ones(1)},
        tmp_path / "checkpoint.safetensors",
    )
    torch.save({"state_dict": named(weights, "text_model.")}, tmp_path / "clip_l.ckpt")
    (tmp_path / "text_encoder").mkdir()
    save_file(weights, tmp_path / "text_encoder" / "model.safetensors")
    results = [
        embed_prompt(tmp_path / name)
        for name in ("clip_l.safetensors", "checkpoint.safetensors", "clip_l.ckpt", "text_encoder", ".")
    ]
    assert results[0].shape == (1, 77, WIDTH)
    assert all(torch.equal(results[0], other) for other in results[1:])
    first, later = results[0][0, 1], results[0][0, 5]  # "a" twice: places and what came before differ
    assert (first - later).abs().max() > 0.1


def test_a_saved_embedding_is_read_back(tmp_path):
    text = torch.randn(1, 77, 768)
    save_file({"text": text, "other": torch.ones(2)}, tmp_path / "text.safetensors")
    assert torch.equal(read_embedding(tmp_path / "text.safetensors"), text)
    save_file({"anything": text[0]}, tmp_path / "only.safetensors")
    assert torch.equal(read_embedding(tmp_path / "only.safetensors"), text)


def test_files_without_a_text_encoder_are_refused(tmp_path):
    save_file({"encoder.conv_in.weight": torch.ones(3)}, tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match="vae.safetensors holds no CLIP text encoder.*expected CLIP-L"):
        embed_prompt(tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match="holds no text embedding"):
        read_embedding(tmp_path / "vae.safetensors")
    weights = clip_weights(0)
    del weights["encoder.layers.1.mlp.fc2.bias"]
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"part.safetensors lacks '.*layers.1.mlp.fc2.bias'"):
        embed_prompt(tmp_path / "part.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        embed_prompt(tmp_path / "none.safetensors")


def test_a_file_that_could_run_code_is_not_opened(tmp_path):
    class Code:
        def __reduce__(self):
            return print, ("code was run",)

    (tmp_path / "clip.ckpt").write_bytes(pickle.dumps({"x": Code()}, protocol=2))
    with pytest.raises(ValueError, match="clip.ckpt holds more than weights"):
        embed_prompt(tmp_path / "clip.ckpt")


@pytest.mark.parametrize("shape", [(1, 77, 2048), (77, 768), (2, 77, 768)])
def test_the_embedding_of_another_family_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(1, tokens, 768\) from CLIP-L"):
        check_text(torch.zeros(shape), SD15)
    check_text(torch.zeros(1, 77, 768), SD15)


def test_a_model_with_an_embedding_of_its_own_takes_no_clip():
    check_text(torch.zeros(1, 1, 16), SMALL)
    with pytest.raises(
        ValueError, match=r"is \(1, 77, 768\); expected \(1, tokens, 16\) as the model 'small' br"
    ):
        check_text(torch.zeros(1, 77, 768), SMALL)
