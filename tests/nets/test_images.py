"""Convolutional and residual networks: sizes, dependencies, variances and errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from pyro_vae import nets
from pyro_vae.nets import layers

ENCODERS = (nets.ConvEncoder, nets.ResNetEncoder)
DECODERS = (nets.ConvDecoder, nets.ResNetDecoder)
PAIRS = list(zip(ENCODERS, DECODERS, strict=True))
SIZES = [(8, 8), (9, 9), (15, 15), (16, 17), (28, 28), (32, 32), (31, 8), (8, 128), (97, 50), (128, 128)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_any_size_is_hit_exactly_through_the_same_sizes(encoder, decoder, height, width):
    down, up = encoder((3, height, width), (6,), (2, 2)), decoder(2, (6,), (2, 3, height, width))
    assert down(torch.randn(2, 3, height, width)).shape == (2, 2, 2)
    assert up(torch.randn(2, 2)).shape == (2, 2, 3, height, width)
    assert up.channels == down.channels[::-1]
    assert up.dense.out_shape == down.dense.in_shape
    assert 2 <= min(down.dense.in_shape[1:]) <= 4


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    height=st.integers(8, 128),
    width=st.integers(8, 128),
    blocks=st.integers(0, 2),
    halvings=st.none() | st.integers(1, 2),
)
def test_any_size_and_channels(lead, height, width, blocks, halvings):
    shape = (*lead, height, width)
    channels = tuple(range(3, 3 + (halvings or math.floor(math.log2(min(height, width) / 2)))))
    options = {"channels": channels, "blocks": blocks}
    down, up = nets.ConvEncoder(shape, (), 2, **options), nets.ConvDecoder(2, (), shape, **options)
    with torch.no_grad():
        assert down(up(torch.randn(1, 2))).shape == (1, 2)
        assert up(torch.randn(1, 2)).shape == (1, *shape)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 11), (15, 28), (63, 20), (127, 127)])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_pixel_reaches_the_code(encoder, height, width):
    net = encoder((2, height, width), (8,), 3, channels=(4,) * (min(height, width).bit_length() - 2)).double()
    x = torch.randn(1, 2, height, width, dtype=torch.float64, requires_grad=True)
    (net(x) * torch.randn(3, dtype=torch.float64)).sum().backward()
    assert x.grad.abs().min() > 0


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 11), (15, 28), (63, 20), (127, 127)])
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_code_reaches_every_pixel(decoder, height, width):
    net = decoder(3, (8,), (2, height, width), channels=(4,) * (min(height, width).bit_length() - 2)).double()
    z = torch.randn(3, dtype=torch.float64)
    _, change = torch.func.jvp(net, (z,), (torch.ones_like(z),))
    assert change.abs().min() > 0


def test_a_256_way_likelihood_and_images_without_channels():
    assert nets.ConvDecoder(4, (8,), (256, 1, 8, 8))(torch.randn(2, 4)).shape == (2, 256, 1, 8, 8)
    assert nets.ConvEncoder((28, 28), (), 4)(torch.randn(2, 28, 28)).shape == (2, 4)
    assert nets.ResNetEncoder((5, 1, 8, 8), (), 4)(torch.randn(2, 5, 1, 8, 8)).shape == (2, 4)


@pytest.mark.parametrize("normalization", [None, "GroupNorm"])
@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_names_and_initial_numbers_do_not_change(encoder, decoder, normalization):
    """Weights of old runs fit, and a seed gives the same start, compared with layers made by hand in the same order."""
    torch.manual_seed(0)
    down = encoder((1, 9, 8), (5,), 2, channels=(4, 8), normalization=normalization)
    up = decoder(2, (5,), (1, 9, 8), channels=(8, 4), normalization=normalization)
    torch.manual_seed(0)
    norms = {4: [] if normalization is None else [nn.GroupNorm(1, 4)], 8: [nn.GroupNorm(2, 8)] if normalization else []}

    def residual(channels):
        pre = [*norms[channels], nn.SiLU()]
        convolutions = layers.convolution(channels, channels), layers.convolution(channels, channels, math.sqrt(0.5))
        return nn.ModuleDict({"branch": nn.Sequential(*pre, convolutions[0], *pre, convolutions[1])})

    def halvings(plain):
        yield layers.halving(1, 4)
        yield from [*norms[4], nn.SiLU()] if plain else [residual(4)]
        yield layers.halving(4, 8, math.sqrt(2) if plain else 1.0)
        yield from [*norms[8], nn.SiLU()] if plain else [residual(8), *norms[8], nn.SiLU()]

    def doublings(plain):
        yield from [*norms[8], nn.SiLU()] if plain else [residual(8)]
        yield layers.doubling(8, 4, (4, 4), math.sqrt(2) if plain else 1.0)
        yield from [*norms[4], nn.SiLU()] if plain else [residual(4), *norms[4], nn.SiLU()]
        yield layers.doubling(4, 1, (9, 8), math.sqrt(0.5))

    plain = encoder is nets.ConvEncoder
    dense = nets.MLP((8, 2, 2), (5,), 2)
    by_hand = nn.ModuleDict({"convolutions": nn.Sequential(*halvings(plain)), "dense": dense})
    _same_numbers(down, by_hand)
    dense = nets.MLP(2, (5,), (8, 2, 2))
    dense.layers[-1] = layers.linear(5, 32)
    _same_numbers(up, nn.ModuleDict({"convolutions": nn.Sequential(*doublings(plain)), "dense": dense}))


def _same_numbers(net, by_hand):
    found, expected = net.state_dict(), by_hand.state_dict()
    assert list(found) == list(expected)
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []


def test_default_channels():
    assert nets.ConvEncoder((1, 8, 8), (), 1).channels == (32,)
    assert nets.ConvEncoder((1, 28, 28), (), 1).channels == (32, 64, 128)
    assert nets.ResNetDecoder(1, (), (3, 128, 128)).channels == (256, 256, 128, 64, 32)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_features_move_with_the_picture(encoder):
    """A patch moved by four pixels gives features moved by one, after two halvings, away from the border."""
    net = encoder((1, 64, 64), (), 1, channels=(3, 4)).double()
    x = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    x[..., 28:34, 27:33] = torch.randn(6, 6, dtype=torch.float64)
    features = net.convolutions(x)
    assert features.shape == (1, 4, 16, 16)
    moved = net.convolutions(x.roll((4, -8), (2, 3)))
    torch.testing.assert_close(moved, features.roll((1, -2), (2, 3)), rtol=1e-10, atol=1e-12)
    assert (features.abs() > 0).any()


def test_a_conv_encoder_is_the_composition_of_its_layers():
    net = nets.ConvEncoder((1, 8, 8), (), 2, activation="Tanh", channels=(3,), context_features=2).double()
    x, c = torch.randn(5, 1, 8, 8, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    padded, weight = nn.functional.pad(x, (1, 1, 1, 1)), net.convolutions[0].weight
    h = torch.stack(
        [
            torch.einsum("bchw,ochw->bo", padded[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4], weight)
            for i in range(4)
            for j in range(4)
        ],
        dim=-1,
    ).tanh()
    last = net.dense.layers[0]
    expected = torch.cat([h.flatten(1), c], -1) @ last.weight.T + last.bias
    torch.testing.assert_close(net(x, c), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("side", [8, 28, 64, 127])
@pytest.mark.parametrize("net", [*ENCODERS, *DECODERS])
def test_signals_keep_their_size(net, side):
    """With ReLU, variance 1/2 (less at zero-padded borders) from inputs of variance 1, within 2.5 either way (seed 0)."""
    torch.manual_seed(0)
    image, x = (3, side, side), torch.randn(16, 3, side, side)
    with torch.no_grad():
        if net in ENCODERS:
            out = net(image, (128, 128), 256, activation="ReLU")(x)
        else:
            out = net(128, (128, 128), image, activation="ReLU")(torch.randn(64, 128))
    assert 1 / 2.5 < out.var().item() / 0.5 < 2.5


@pytest.mark.parametrize("activation", ["ReLU", "SiLU"])
@pytest.mark.parametrize("blocks", [1, 10, 40])
def test_residual_blocks_do_not_blow_up_the_signal(blocks, activation):
    """The variance of 2 after the halving grows by at most √e, within 10 %, for any number of blocks (seed 0)."""
    torch.manual_seed(0)
    net = nets.ResNetEncoder((4, 32, 32), (), 1, activation=activation, channels=(24,), blocks=blocks)
    with torch.no_grad():
        start = net.convolutions[0](torch.randn(16, 4, 32, 32))
        end = net.convolutions[1 : 1 + blocks](start)
        change = (end - start).var() / start.var()
    assert 0.9 < end.var() / start.var() < 1.1 * math.exp(0.5)
    assert change > 0.05


@pytest.mark.parametrize("normalization", [None, "GroupNorm"])
@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_an_autoencoder_learns_a_few_digits(encoder, decoder, normalization):
    """The squared error of 32 pictures of digits falls to less than a tenth of their variance in 200 steps."""
    torch.manual_seed(0)
    x = torch.tensor(load_digits().images[:32] / 16, dtype=torch.float32).unsqueeze(1)
    options = {"channels": 16, "normalization": normalization}
    down, up = encoder((1, 8, 8), (32,), 8, **options), decoder(8, (32,), (1, 8, 8), **options)
    optimizer = torch.optim.Adam([*down.parameters(), *up.parameters()], lr=5e-3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (up(down(x)) - x).square().mean()
        loss.backward()
        optimizer.step()
    variance = (x - x.mean(0)).square().mean().item()
    assert loss.item() < variance / 10


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
@pytest.mark.parametrize("shape", [(784,), (1, 7, 8), (2, 20), (8, 8, 1)])
def test_what_is_no_image_is_refused(encoder, decoder, shape):
    for make, name in ((lambda: encoder(shape, (), 2), "in_shape"), (lambda: decoder(2, (), shape), "out_shape")):
        with pytest.raises(
            ValueError,
            match=rf"coder needs {name} to be images, .* of at least 8 x 8 pixels; got \({shape[0]},.*Use an MLP",
        ):
            make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (4, 4, 4)}, r"channels must be at most 2 numbers for ResNet.*coder with images of 9 x 8.*; got"),
        ({"channels": (4, 0)}, r"channels must be an integer or integers of at least 1; got \(4, 0\)"),
        ({"channels": ()}, r"channels must be an integer or integers of at least 1; got \(\)"),
        ({"channels": "many"}, "channels must be an integer or integers of at least 1; got 'many'"),
        ({"blocks": 0}, "blocks must be an integer of at least 1; got 0"),
        ({"hidden": (0,)}, r"hidden must be an integer or integers of at least 1; got \(0,\)"),
    ],
)
def test_bad_options_are_refused(options, message):
    for make in (
        lambda **o: nets.ResNetEncoder(**{"in_shape": (1, 9, 8), "hidden": (), "out_shape": 2, **o}),
        lambda **o: nets.ResNetDecoder(**{"in_shape": 2, "hidden": (), "out_shape": (1, 9, 8), **o}),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)
