"""Networks: what they compute, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyro_vae import nets


def test_mlp_without_hidden_layers_is_linear():
    net = nets.MLP((2, 3), (), (4,)).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    layer = net.layers[0]
    torch.testing.assert_close(net(x), x.reshape(5, 6) @ layer.weight.T + layer.bias)


def test_mlp_is_the_composition_of_its_layers():
    net = nets.MLP(3, (4, 5), (2, 2), activation="Tanh", context=2).double()
    x, c = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    h = torch.cat([x, c], -1)
    first, second, last = (layer for layer in net.layers if isinstance(layer, nn.Linear))
    expected = last(torch.tanh(second(torch.tanh(first(h)))))
    torch.testing.assert_close(net(x, c), expected.reshape(6, 2, 2))
    torch.testing.assert_close(net(x, c[:, :1], c[:, 1:]), net(x, c))


def test_contexts_broadcast_against_particles():
    net = nets.MLP(3, (4,), 2, context=2)
    x, c = torch.randn(5, 6, 3), torch.randn(6, 2)
    torch.testing.assert_close(net(x, c)[2], net(x[2], c))


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
        ((1, (), 1, "ReLU", -1), "context must be the number of context features, at least 0; got -1"),
    ],
)
def test_bad_shapes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        nets.MLP(*arguments)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((torch.zeros(4, 2, 4),), r"needs input of shape \(batch, 2, 3\); got \(4, 2, 4\)"),
        ((torch.zeros(4, 2, 3, dtype=torch.uint8),), "needs floating-point input; got torch.uint8"),
        (
            (torch.zeros(4, 2, 3), torch.zeros(4, dtype=torch.long)),
            r"got torch.int64 of shape \(4,\)\. Give class labels",
        ),
        ((torch.zeros(4, 2, 3), torch.zeros(4, 5)), "was built for 0 context features; got 5"),
    ],
)
def test_bad_inputs_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        nets.MLP((2, 3), (), 1)(*inputs)


def test_a_missing_context_is_named():
    with pytest.raises(
        ValueError, match=r"was built for 2 context features; got 0. Pass the context, \(batch, 2\), after the input"
    ):
        nets.MLP(3, (), 1, context=2)(torch.zeros(4, 3))
