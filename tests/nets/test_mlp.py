"""Fully connected networks: values and errors."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, special, stats
from torch import nn

from pyro_vae import nets


def test_mlp_without_hidden_layers_is_linear():
    net = nets.MLP((2, 3), (), (4,)).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    layer = net.layers[0]
    torch.testing.assert_close(net(x), x.reshape(5, 6) @ layer.weight.T + layer.bias)


def test_mlp_is_the_composition_of_its_layers():
    net = nets.MLP(3, (4, 5), (2, 2), activation="Tanh", context_features=2).double()
    x, c = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    h = torch.cat([x, c], -1)
    first, second, last = (layer for layer in net.layers if isinstance(layer, nn.Linear))
    expected = last(torch.tanh(second(torch.tanh(first(h)))))
    torch.testing.assert_close(net(x, c), expected.reshape(6, 2, 2))
    torch.testing.assert_close(net(x, c[:, :1], c[:, 1:]), net(x, c))


@pytest.mark.parametrize("context", [0, 2])
def test_gated_mlp_is_its_formula(context):
    net = nets.GatedMLP(3, (4, 5), (2, 2), context_features=context).double()
    x, c = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, context, dtype=torch.float64)
    first, second, last = (layer for layer in net.layers if isinstance(layer, nn.Linear))
    for layer in (first, second, last):
        nn.init.normal_(layer.bias)
    h = torch.cat([x, c], -1)
    for layer, size in ((first, 4), (second, 5)):
        w1, w2, b1, b2 = layer.weight[:size], layer.weight[size:], layer.bias[:size], layer.bias[size:]
        h = (h @ w1.T + b1) * (1 / (1 + torch.exp(-(h @ w2.T + b2))))
    expected = (h @ last.weight.T + last.bias).reshape(6, 2, 2)
    torch.testing.assert_close(net(x, c) if context else net(x), expected, rtol=1e-10, atol=1e-12)


def test_normalization_stands_between_a_layer_and_its_activation():
    net = nets.MLP(3, (4, 5), 2, activation="Tanh", normalization="LayerNorm").double()
    x = torch.randn(6, 3, dtype=torch.float64)
    h = x
    for layer in [layer for layer in net.layers if isinstance(layer, nn.Linear)][:2]:
        h = h @ layer.weight.T + layer.bias
        h = (h - h.mean(-1, keepdim=True)) / torch.sqrt(h.var(-1, correction=0, keepdim=True) + 1e-5)
        h = torch.tanh(h)
    torch.testing.assert_close(net(x), h @ net.layers[-1].weight.T + net.layers[-1].bias, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [nets.MLP, nets.GatedMLP])
def test_batch_normalization_is_over_everything_in_front_of_the_features(make):
    """A second batch dimension could be taken for the features; the sizes agree, so no error would show."""
    x = torch.randn(4, 4, 3)
    first, second = make(3, (4,), 2, normalization="BatchNorm1d"), make(3, (4,), 2, normalization="BatchNorm1d")
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x.flatten(0, 1)).unflatten(0, (4, 4)))
    norm = next(layer for layer in first.layers if isinstance(layer, nn.BatchNorm1d))
    assert norm.running_mean.abs().sum() > 0


def test_gates_pass_on_the_second_moment_of_their_units():
    """E[sigmoid(u)²] over a standard normal u, by quadrature: the scale that undoes it is in the first half."""
    mean_square, _ = integrate.quad(lambda u: special.expit(u) ** 2 * stats.norm.pdf(u), -40, 40, epsabs=1e-13)
    torch.manual_seed(0)
    layer = nets.GatedMLP(1000, (1000,), 1).layers[0]
    values, gates = (half.std().item() * math.sqrt(1000) for half in layer.weight.split(1000))
    assert gates == pytest.approx(1.0, rel=0.01)
    assert values == pytest.approx(mean_square**-0.5, rel=0.01)


@pytest.mark.parametrize("depth", [1, 4, 10])
def test_signals_keep_their_size_through_gates(depth):
    """An output of variance 1/2 from inputs of variance 1, within a factor of 1.5 (seed 0)."""
    torch.manual_seed(0)
    net = nets.GatedMLP(400, (400,) * depth, 400)
    with torch.no_grad():
        assert 1 / 1.5 < net(torch.randn(500, 400)).var().item() / 0.5 < 1.5


@pytest.mark.parametrize("width", [64, 512])
def test_signals_keep_their_size_through_the_layers(width):
    """An output of variance 1/2 from inputs of variance 1, within 20 % over 200,000 numbers."""
    torch.manual_seed(0)
    net = nets.MLP(width, (width,) * 4, width, activation="ReLU")
    with torch.no_grad():
        assert net(torch.randn(200_000 // width, width)).var().item() == pytest.approx(0.5, rel=0.2)


def test_activations_by_name_class_and_function():
    for activation in ("ReLU", nn.ReLU, lambda: nn.ReLU()):
        assert isinstance(nets.MLP(1, (2,), 1, activation=activation).layers[1], nn.ReLU)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (), 1), "in_shape must be an integer or integers of at least 1; got 0"),
        ((1, (0,), 1), r"hidden must be an integer or integers of at least 1; got \(0,\)"),
        ((1, (), ()), r"out_shape must be an integer or integers of at least 1; got \(\)"),
        ((1, (1.5,), 1), r"hidden must be an integer or integers of at least 1; got \(1.5,\)"),
        ((1, (), 1, "SiLu"), "activation must be the name of one in torch.nn, .*; got 'SiLu'"),
        ((1, (), 1, "Linear"), "activation must be the name of one in torch.nn"),
        ((1, (), 1, "ReLU", -1), "context_features must be an integer of at least 0; got -1"),
    ],
)
def test_bad_shapes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        nets.MLP(*arguments)
