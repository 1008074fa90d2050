"""What a step computes from: scales, layouts, latents that the data brings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_model import TINY

from training.augment import NO_AUGMENT
from training.clip_store import ClipStore
from training.examples import Examples
from training.step_inputs import prepare_inputs

LATENT = replace(
    TINY,
    name="latent",
    autoencoder="vae",
    prior=None,
    maps=("depth", "normal"),
    latent_scale=0.5,
    unet=replace(TINY.unet, latent_channels=4),
)


class Mean:
    """A VAE that keeps the mean of each cell."""

    def encode(self, pictures):
        cells = torch.nn.functional.avg_pool2d(pictures, 4)
        return torch.cat((cells, cells[:, :1]), dim=1)


@pytest.fixture(scope="module")
def batch(drawn_store):
    return Examples([(ClipStore(drawn_store), 1.0)], LATENT, 2, 3, 0, NO_AUGMENT).batch_at(0)


def test_latents_have_the_network_s_scale_and_clips_their_frames(batch):
    inputs = prepare_inputs(batch, LATENT, Mean())
    assert inputs.latents.shape == (3, 4, 2, 16, 16) and inputs.prior is None
    cell = batch.frames[2, 1, 0, 4:8, 8:12].float().mean() / 127.5 - 1
    torch.testing.assert_close(inputs.latents[2, 0, 1, 1, 2], 0.5 * cell)
    cell = batch.reference[2, 1, 4:8, 8:12].float().mean() / 127.5 - 1
    torch.testing.assert_close(inputs.reference[2, 1, 1, 2], 0.5 * cell)


def test_maps_are_frame_by_frame_from_0_to_1(batch):
    inputs = prepare_inputs(batch, LATENT, Mean())
    assert inputs.maps.keys() == {"depth", "normal"}
    assert torch.equal(inputs.maps["normal"][3] * 255, batch.maps["normal"][1, 1].float())


def test_the_head_is_where_its_maps_are(batch):
    inputs = prepare_inputs(batch, LATENT, Mean())
    expected = (batch.maps["depth"].amax(2) > 0) | (batch.maps["normal"].amax(2) > 0)
    assert torch.equal(inputs.head[:, 0], expected) and 0.1 < expected.float().mean() < 0.9


def test_stored_latents_are_taken_as_they_are(batch):
    latents, reference = torch.randn(3, 2, 4, 16, 16).half(), torch.randn(3, 4, 16, 16).half()
    stored = replace(batch, latents=latents, reference_latents=reference)
    inputs = prepare_inputs(stored, LATENT, encoder=None)  # so nothing is encoded
    assert torch.equal(inputs.latents[1, :, 1], latents[1, 1].float())
    assert torch.equal(inputs.reference, reference.float())
    assert torch.equal(stored[1:2].latents, latents[1:2])
