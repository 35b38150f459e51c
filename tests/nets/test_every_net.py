"""Properties of all networks: batches, contexts, gradients, export, configurations and errors."""

from __future__ import annotations

import pytest
import torch

from pyro_vae import build, nets
from pyro_vae.config import describe

IMAGE, CODE = (2, 9, 8), (3,)
COLUMNS = [{"as": "number", "loc": 0.5}, {"as": "one_hot", "values": 2}, {"as": "embedding", "values": 3, "width": 2}]
SMALL = {"channels": (3,), "activation": "Tanh"}
NETS = {
    "MLP": lambda **o: nets.MLP(CODE, (5,), (2, 2), activation="Tanh", **o),
    "MLP-LayerNorm": lambda **o: nets.MLP(CODE, (5,), (2, 2), activation="Tanh", normalization="LayerNorm", **o),
    "GatedMLP": lambda **o: nets.GatedMLP(CODE, (5,), (2, 2), **o),
    "MLP-TableEncoding": lambda **o: nets.MLP(
        CODE, (5,), (2, 2), activation="Tanh", encoding={"class": "TableEncoding", "columns": COLUMNS}, **o
    ),
    "ConvEncoder": lambda **o: nets.ConvEncoder(IMAGE, (5,), (2, 2), **{**SMALL, **o}),
    "ConvEncoder-linear": lambda **o: nets.ConvEncoder(IMAGE, (), 4, **{**SMALL, "normalization": "GroupNorm", **o}),
    "ConvDecoder": lambda **o: nets.ConvDecoder(CODE, (5,), IMAGE, **{**SMALL, **o}),
    "ConvDecoder-linear": lambda **o: nets.ConvDecoder(CODE, (), IMAGE, **{**SMALL, "normalization": "GroupNorm", **o}),
    "ConvEncoder-blocks": lambda **o: nets.ConvEncoder(IMAGE, (5,), (2, 2), **{**SMALL, "blocks": 2, **o}),
    "ResNetEncoder": lambda **o: nets.ResNetEncoder(IMAGE, (5,), (2, 2), **{**SMALL, **o}),
    "ResNetDecoder": lambda **o: nets.ResNetDecoder(CODE, (5,), IMAGE, **{**SMALL, "normalization": "GroupNorm", **o}),
}


def rand(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=NETS)
def make(request):
    return lambda **options: NETS[request.param](**options).double()


def test_dimensions_in_front_are_one_batch(make):
    net = make()
    x = rand(2, 3, 4, *net.in_shape)
    out = net(x)
    assert out.shape == (2, 3, 4, *net.out_shape)
    assert torch.equal(out, net(x.flatten(0, 2)).unflatten(0, (2, 3, 4)))
    torch.testing.assert_close(out[1, 2, 3], net(x[1, 2, 3]), rtol=1e-12, atol=1e-14)
    assert net(x[:0]).shape == (0, 3, 4, *net.out_shape)
    assert net.float()(x.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("batch_x", "batch_c", "batch"),
    [
        ((4, 1), (3,), (4, 3)),  # codes enumerated over a plate
        ((3,), (4, 3), (4, 3)),  # particles of the context
        ((4, 3), (3,), (4, 3)),  # particles of the codes
        ((2, 1, 3), (4, 1), (2, 4, 3)),
        ((3,), (1,), (3,)),
        ((), (3,), (3,)),
    ],
)
def test_inputs_and_contexts_broadcast(make, batch_x, batch_c, batch):
    net = make(context_features=2)
    x, c = rand(*batch_x, *net.in_shape), rand(*batch_c, 2, seed=2)
    out = net(x, c)
    assert out.shape == (*batch, *net.out_shape)
    full = net(x.expand(*batch, *net.in_shape).contiguous(), c.expand(*batch, 2).contiguous())
    torch.testing.assert_close(out, full, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(net(x, c[..., :1], c[..., 1:]), out)


def test_each_context_feature_changes_the_output(make):
    net = make(context_features=2)
    x, c = rand(3, *net.in_shape), rand(3, 2, seed=2)
    for i in range(2):
        other = c.clone()
        other[1, i] += 1
        change = (net(x, other) - net(x, c)).flatten(1).abs().amax(1)
        assert change[1] > 1e-3
        assert change[0] == change[2] == 0


def test_every_parameter_gets_a_gradient(make):
    net = make(context_features=2)
    # Random weights: the sum of a normalised quantity has no gradient.
    out = net(rand(5, *net.in_shape), rand(5, 2, seed=2))
    (out * rand(*out.shape, seed=3)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-8, name


def test_gradients_are_right(make):
    net = make(context_features=1)
    x = rand(2, *net.in_shape).requires_grad_()
    c = rand(2, 1, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(net, (x, c), fast_mode=True)


@pytest.mark.parametrize("context", [0, 2])
def test_export_captures_any_batch(make, context):
    net = make(context_features=context)
    batch = torch.export.Dim("batch", min=2, max=1024)

    def inputs(n):
        return (rand(n, *net.in_shape), *((rand(n, context, seed=2),) if context else ()))

    dynamic = {"x": {0: batch}, **({"context": ({0: batch},)} if context else {})}
    exported = torch.export.export(net, inputs(3), dynamic_shapes=dynamic, strict=False).module()
    for n in (3, 7):
        torch.testing.assert_close(exported(*inputs(n)), net(*inputs(n)), rtol=1e-12, atol=1e-14)


def test_a_net_is_built_again_from_its_description(make):
    net = make(context_features=2)
    described = describe(net)
    assert described.pop("class") == type(net).__name__
    again = type(net)(**described).double()
    again.load_state_dict(net.state_dict())
    x, c = rand(3, *net.in_shape), rand(3, 2, seed=2)
    assert torch.equal(again(x, c), net(x, c))
    assert describe(again) == describe(net)


def test_descriptions_are_the_arguments():
    arguments = {
        "in_shape": [1, 10, 11],
        "hidden": [7],
        "out_shape": [2, 3],
        "activation": "ReLU",
        "context_features": 4,
        "normalization": "GroupNorm",
        "channels": [8, 12],
        "blocks": 2,
    }
    assert describe(nets.ResNetEncoder(**arguments)) == {"class": "ResNetEncoder", **arguments}
    shapes = {"in_shape": [2, 3], "out_shape": [1, 10, 11]}
    assert describe(nets.ResNetDecoder(**{**arguments, **shapes})) == {"class": "ResNetDecoder", **arguments, **shapes}
    assert describe(nets.ConvEncoder(**arguments)) == {"class": "ConvEncoder", **arguments}
    assert describe(nets.ConvDecoder(**{**arguments, **shapes})) == {"class": "ConvDecoder", **arguments, **shapes}
    del arguments["blocks"], arguments["channels"]
    arguments |= {"log1p": True, "encoding": None}
    assert describe(nets.MLP(**arguments)) == {"class": "MLP", **arguments}
    del arguments["activation"]
    assert describe(nets.GatedMLP(**arguments)) == {"class": "GatedMLP", **arguments}


@pytest.mark.parametrize("kind", ["Conv", "ResNet"])
def test_build_makes_images_nets_by_name(kind):
    vae = build(
        (1, 9, 8),
        latent_dim=3,
        hidden=(7, 6),
        activation="ReLU",
        context_features=2,
        likelihood={"class": "Normal", "scale": "per_element", "net": {"class": f"{kind}Decoder", "channels": [4]}},
        posterior={"class": "DiagonalNormal", "net": f"{kind}Encoder"},
    )
    decoder, encoder = vae.likelihood.net, vae.posterior.net
    assert (decoder.in_shape, decoder.hidden, decoder.out_shape, decoder.channels) == ((3,), (6, 7), (2, 1, 9, 8), (4,))
    assert (encoder.in_shape, encoder.hidden, encoder.out_shape, encoder.channels) == ((1, 9, 8), (7, 6), (6,), (32,))
    assert {decoder.activation, encoder.activation} == {"ReLU"}
    assert vae.sample(4, torch.zeros(4, 2), seed=0).shape == (4, 1, 9, 8)
    gated = build((1, 2, 3), latent_dim=3, posterior={"class": "DiagonalNormal", "net": "GatedMLP"})
    assert isinstance(gated.posterior.net, nets.GatedMLP)


def test_bad_inputs_are_refused(make):
    net = make()
    name, shape = type(net).__name__, ", ".join(map(str, net.in_shape))
    wrong = (4, *net.in_shape[:-1], net.in_shape[-1] + 1)
    for inputs, message in (
        ((rand(*wrong),), rf"{name} needs input of shape \(batch, {shape}\); got \({', '.join(map(str, wrong))}\)"),
        ((rand(*net.in_shape[1:], 1),), f"{name} needs input of shape"),
        ((torch.zeros(4, *net.in_shape, dtype=torch.uint8),), f"{name} needs floating-point input; got torch.uint8"),
        (
            (rand(4, *net.in_shape), torch.zeros(4, dtype=torch.long)),
            rf"{name} needs each context .*; got torch.int64 of shape \(4,\)\. Give class labels as .*one_hot",
        ),
        (
            (rand(4, *net.in_shape), rand(4, 5)),
            rf"{name} was built for 0 context features; got 5. Build it with {name}\(..., context_features=5\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            net(*inputs)


def test_bad_contexts_are_refused(make):
    net = make(context_features=2)
    name, x = type(net).__name__, rand(4, *net.in_shape)
    message = rf"{name} was built for 2 context features; got 0. Pass the context, \(batch, 2\), after the input; "
    message += "a Dataset or DataLoader gives it with has_context=True"
    with pytest.raises(ValueError, match=message):
        net(x)
    message = rf"{name} needs a context whose leading .*; got context \(3, 2\) for input \(4, .*one row per example"
    with pytest.raises(ValueError, match=message):
        net(x, rand(3, 2))
    for bad in (-1, None, 1.5):
        with pytest.raises(ValueError, match=f"context_features must be an integer of at least 0; got {bad}"):
            make(context_features=bad)
