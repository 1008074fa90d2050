"""Cells that hold the pixels themselves."""

from dataclasses import replace

import pytest
import torch

from magicportrait_core.autoencoder import PixelUnshuffle, autoencoder_of, check_vae, load_vae
from magicportrait_core.models.config import SD15, SMALL


def test_encoding_and_decoding_are_exact_inverses():
    pictures = torch.rand(2, 3, 24, 16) * 2 - 1
    cells = PixelUnshuffle(4)
    latents = cells.encode(pictures)
    assert latents.shape == (2, cells.latent_channels, 6, 4) == (2, 48, 6, 4)
    assert torch.equal(torch.stack(list(cells.decode(latents))), pictures)


def test_a_cell_has_its_pixels_colour_by_colour_row_by_row():
    picture = torch.arange(3 * 4 * 4, dtype=torch.float32).view(1, 3, 4, 4) / 48
    assert (PixelUnshuffle(4).encode(picture)[0, :, 0, 0] * 48).tolist() == list(range(48))
    assert (PixelUnshuffle(2).encode(picture)[0, :4, 0, 1] * 48).tolist() == [2, 3, 6, 7]


def test_values_outside_of_pictures_are_clamped_and_half_precision_is_widened():
    frame = next(PixelUnshuffle(2).decode(torch.full((1, 12, 1, 1), 3.0, dtype=torch.float16)))
    assert torch.equal(frame, torch.ones(3, 2, 2)) and frame.dtype == torch.float32


def test_pictures_that_do_not_split_are_refused():
    with pytest.raises(ValueError, match="30x24 pixels do not split into cells of 4x4; resize them"):
        PixelUnshuffle(4).encode(torch.zeros(1, 3, 24, 30))


def test_it_takes_the_place_of_a_vae():
    cells = PixelUnshuffle(4)
    assert cells.to("cpu", torch.float16) is cells
    check_vae(cells, SMALL)
    check_vae(None, SMALL)
    assert autoencoder_of(cells, SMALL) is cells
    assert autoencoder_of(None, SMALL).fingerprint == cells.fingerprint != PixelUnshuffle(2).fingerprint


def test_a_model_gets_what_it_works_on(tmp_path):
    from safetensors.torch import save_file
    from sd_vae import random_vae

    save_file(random_vae(), tmp_path / "vae.safetensors")
    vae = load_vae(tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match="'small' works on .* takes no VAE; leave out vae.safetensors$"):
        check_vae(vae, SMALL)
    with pytest.raises(ValueError, match="takes no VAE; leave out unshuffled pixels of 2x2"):
        check_vae(PixelUnshuffle(2), SMALL)
    with pytest.raises(ValueError, match="the model 'sd15' needs a VAE and got none; expected SD 1.5's"):
        autoencoder_of(None, SD15)
    with pytest.raises(ValueError, match="needs a VAE and got unshuffled pixels of 8x8; expected SD 1.5's"):
        check_vae(PixelUnshuffle(8), SD15)


def test_a_config_whose_cells_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="latent_channels=4; cells of 4x4 pixels have 48 values"):
        replace(SMALL, unet=replace(SMALL.unet, latent_channels=4))
    with pytest.raises(ValueError, match="autoencoder='vae' with a prior, which is of the pixels"):
        replace(SMALL, autoencoder="vae")
