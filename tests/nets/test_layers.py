"""Activations and normalisations by name, class, function and dotted path, and errors."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from pyro_vae import nets
from pyro_vae.nets.layers import find_activation, find_normalization

ELEMENTWISE = [
    name
    for name in torch.nn.modules.activation.__all__
    if name not in ("GLU", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "Threshold")
]


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.3)


def four_groups(channels: int) -> nn.Module:
    return nn.GroupNorm(4, channels)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_activation_by_name_works_on_each_number_by_itself(name):
    activation = find_activation(name)().eval()
    x = torch.randn(3, 4)
    y = activation(x)
    torch.testing.assert_close(y[1, 2], activation(x[1:2, 2:3])[0, 0])
    assert nets.MLP(4, (5,), 2, activation=name)(x).shape == (3, 2)


@pytest.mark.parametrize("activation", [leaky, f"{__name__}.leaky", functools.partial(nn.LeakyReLU, 0.3)])
def test_activations_of_ones_own(activation):
    assert nets.MLP(1, (2,), 1, activation=activation).layers[1].negative_slope == 0.3
    assert nets.ConvEncoder((1, 8, 8), (), 1, activation=activation).convolutions[1].negative_slope == 0.3


@pytest.mark.parametrize(
    ("net", "normalization", "cls"),
    [
        (lambda n: nets.MLP(3, (12,), 1, normalization=n).layers[1], "LayerNorm", nn.LayerNorm),
        (lambda n: nets.MLP(3, (12,), 1, normalization=n).layers[1], "RMSNorm", nn.RMSNorm),
        (lambda n: nets.MLP(3, (12,), 1, normalization=n).layers[1], "BatchNorm1d", nn.BatchNorm1d),
        (lambda n: nets.GatedMLP(3, (12,), 1, normalization=n).layers[2], "GroupNorm", nn.GroupNorm),
        (lambda n: nets.ConvEncoder((1, 9, 9), (), 1, normalization=n).convolutions[1], "BatchNorm2d", nn.BatchNorm2d),
        (lambda n: nets.ConvDecoder(1, (), (9, 9), normalization=n).convolutions[0], "GroupNorm", nn.GroupNorm),
        (
            lambda n: nets.ResNetEncoder((1, 9, 9), (), 1, normalization=n).convolutions[-2],
            "InstanceNorm2d",
            nn.InstanceNorm2d,
        ),
        (
            lambda n: nets.ResNetDecoder(1, (), (9, 9), normalization=n).convolutions[0].branch[3],
            "GroupNorm",
            nn.GroupNorm,
        ),
    ],
)
def test_normalizations_by_name_class_function_and_path(net, normalization, cls):
    for same in (normalization, cls):
        found = net(same)
        assert type(found) is cls
        assert found.weight is not None
    for own in (four_groups, f"{__name__}.four_groups"):
        assert net(own).num_groups == 4
    assert not isinstance(net(None), cls)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (12, 3), (32, 8), (96, 8)])
def test_groups_divide_the_channels_and_are_never_of_a_few(channels, groups):
    (norm,) = find_normalization("GroupNorm", images=True)(channels)
    assert norm.num_groups == groups
    assert channels == 1 or norm(torch.randn(2, channels, 1, 1)).abs().sum() > 0


def test_activations_in_place_leave_the_skip_connections_alone():
    torch.manual_seed(0)
    in_place = nets.ResNetEncoder((1, 8, 8), (), 2, activation=lambda: nn.ReLU(inplace=True))
    plain = nets.ResNetEncoder((1, 8, 8), (), 2, activation="ReLU")
    plain.load_state_dict(in_place.state_dict())
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(in_place(x), plain(x))


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("SiLu", "activation must be the name of one in torch.nn, such as 'SiLU', .*; got 'SiLu'"),
        ("Linear", "activation must be the name of one in torch.nn"),
        ("GLU", "that works on each number by itself; got 'GLU'"),
        (nn.ReLU(), r"or a class or function that makes one; got one already made, ReLU\(\)"),
        (3, "or a class or function that makes one; got 3"),
        ("nowhere.at_all", "or a dotted path to your own; got 'nowhere.at_all', which cannot be imported"),
    ],
)
def test_other_activations_are_refused(activation, message):
    for make in (lambda: nets.MLP(1, (), 1, activation), lambda: nets.ResNetDecoder(1, (), (8, 8), activation)):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(
    ("normalization", "message"),
    [
        ("BatchNorm", "; got 'BatchNorm'"),
        (nn.SyncBatchNorm, "; got 'SyncBatchNorm'"),
        (nn.LayerNorm(3), "or a class or function that makes one; got one already made, LayerNorm"),
        (True, "or a class or function that makes one; got True"),
        ("torch.nn.LayerNorms", "or a dotted path to your own; got 'torch.nn.LayerNorms', which cannot be imported"),
    ],
)
def test_other_normalizations_are_refused(normalization, message):
    vectors = "that suits vectors, 'LayerNorm', 'RMSNorm', 'BatchNorm1d', 'GroupNorm'"
    images = "that suits images, 'BatchNorm2d', 'InstanceNorm2d', 'GroupNorm'"
    for make, names in (
        (lambda: nets.MLP(1, (2,), 1, normalization=normalization), vectors),
        (lambda: nets.GatedMLP(1, (), 1, normalization=normalization), vectors),
        (lambda: nets.ConvEncoder((1, 8, 8), (), 1, normalization=normalization), images),
        (lambda: nets.ResNetDecoder(1, (), (8, 8), normalization=normalization), images),
    ):
        with pytest.raises(ValueError, match=f"normalization must be None or .* {names}.*{message}"):
            make()


def test_normalizations_of_the_other_kind_are_refused():
    with pytest.raises(ValueError, match="suits images, .*; got 'LayerNorm'"):
        nets.ConvEncoder((1, 8, 8), (), 1, normalization=nn.LayerNorm)
    with pytest.raises(ValueError, match="suits vectors, .*; got 'BatchNorm2d'"):
        nets.MLP(1, (2,), 1, normalization="BatchNorm2d")
