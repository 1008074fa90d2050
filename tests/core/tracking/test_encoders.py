"""DECA's and SMIRK's encoders against torchvision's and timm's, with weights that follow a formula
(scripts/record_encoder_reference.py), and their numbers by name."""

import pytest
import torch
from record_encoder_reference import formula_pictures, formula_state
from safetensors.torch import load_file

from magicportrait_core.tracking.deca import DecaEncoder, deca_codes
from magicportrait_core.tracking.encoder_files import fold_norms
from magicportrait_core.tracking.smirk import SmirkExpressionEncoder, smirk_codes


@pytest.fixture(scope="module")
def recorded(golden):
    return load_file(golden / "encoders_io.safetensors")


@pytest.mark.parametrize(
    ("name", "network", "tensors"), [("deca", DecaEncoder, 322), ("smirk", SmirkExpressionEncoder, 278)]
)
def test_encoder_equals_the_published_architecture(recorded, name, network, tensors):
    module = network()
    state = module.state_dict()
    assert len(state) == tensors
    module.load_state_dict(formula_state(state))
    module.eval().requires_grad_(False)
    expected = recorded[name]
    scale = expected.std()
    assert (expected[0] - expected[1]).abs().max() > scale  # the picture matters
    pictures = formula_pictures()
    torch.testing.assert_close(module(pictures) / scale, expected / scale, atol=1e-5, rtol=0)
    fold_norms(module)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in module.modules())
    torch.testing.assert_close(module(pictures) / scale, expected / scale, atol=2e-5, rtol=0)


def test_smirk_limits_are_the_released_ones(golden):
    recorded = load_file(golden / "released_misc.safetensors")
    codes = smirk_codes(recorded["smirk_raw55"])
    assert torch.equal(codes.expression, recorded["smirk_exp"])
    assert torch.equal(codes.eyelids, recorded["smirk_eyelid"])
    assert torch.equal(codes.jaw, recorded["smirk_jaw"])


def test_deca_numbers_have_their_order():
    codes = deca_codes(torch.arange(236.0)[None])
    assert codes.shape[0, 0] == 0 and codes.texture[0, 0] == 100 and codes.expression[0, 0] == 150
    assert codes.rotation.tolist() == [[200, 201, 202]] and codes.jaw.tolist() == [[203, 204, 205]]
    assert codes.scale_shift.tolist() == [[206, 207, 208]]
    assert codes.light[0, 1].tolist() == [212, 213, 214] and codes.light.shape == (1, 9, 3)
