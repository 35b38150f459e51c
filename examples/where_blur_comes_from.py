"""Blurred pictures are means over images that one code cannot tell apart, which the likelihood decides.

    python examples/where_blur_comes_from.py [figure.png]

Trains VAEs on the embedded grey digits that differ only in the likelihood. The table, for test digits: nats in a code
(kl); how many training digits are plausible given the code (alike); how far the mean of p(x | z) is from the digit, and
from the average of these training digits; roughness (total variation, 1 for digits) of means and of draws of p(x | z),
and of both for new z from the prior; the bound in bits per pixel.

At scale 1, which is half a squared error, telling digits apart is not worth its KL: each digit comes back as the mean
digit. At 0.3, a code leaves some twenty digits, and the reconstruction is nearer to their average than to the digit. At
0.08, the scale that fits, codes carry six times as much, and the blur is gone. At 0.03 the blur is gone too, but the
bound is worst, and samples are no digits. The mixture of logistics has by far the best bound, with half the nats of the
scale that fits, since it leaves more to noise. So its means are a little blurred, and its draws are as rough as digits.
A Gaussian's draws show what its means hide: the scale, as noise.
"""

import math
import sys

import torch
from matplotlib.figure import Figure

from pyro_vae import average_elbo, build, data, fit
from pyro_vae.evaluation import bits_per_dim, latent_use

LIKELIHOODS = {f"Normal, scale {scale}": {"class": "Normal", "scale": scale} for scale in (1.0, 0.3, "optimal", 0.03)}
LIKELIHOODS["logistic mixture"] = {"class": "DiscretizedLogisticMixture", "levels": 17, "components": 3}


def roughness(x):
    return (x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()).item()


def compare(spec, digit, epochs, hidden):
    density = spec["class"] == "Normal"  # over the reals: of pixels with noise within each level
    digits = data.load("digits", dequantize=density)
    torch.manual_seed(0)
    vae = build(digits.event_shape, latent_dim=20, hidden=hidden, likelihood=spec)
    fit(vae, digits.train, valid=digits.valid, epochs=epochs, progress=False)
    (x,), (train,) = (next(iter(data.batches(images, len(images)))) for images in (digits.test, digits.train))
    with torch.no_grad():
        z = vae.eval().codes(x)
        alike = vae.encode(train).log_prob(z.unsqueeze(1)).softmax(-1)  # which training digits z may be the code of
        p, new = vae.decode(z), vae.decode(torch.randn_like(z))
        images = {"average": torch.einsum("bn,n...->b...", alike, train), "mean": p.mean, "draw": p.sample()}
        images |= {"new mean": new.mean, "new draw": new.sample()}
    if density:  # (level + u) / 17, u uniform, back to level / 16
        images = {name: (17 * image - 0.5) / 16 for name, image in images.items()}
    images, bound = {"digit": digit, **images}, average_elbo(vae, digits.test, num_particles=10)
    numbers = {"kl": bound.kl, "alike": len(train) / math.exp(latent_use(vae, train).mutual_information)}
    numbers |= {f"to {n}": (images["mean"] - images[n]).square().mean().sqrt().item() for n in ("digit", "average")}
    numbers |= {n: roughness(images[n]) / roughness(digit) for n in ("mean", "draw", "new mean", "new draw")}
    # A density over cells of width 1/17 bounds the probabilities of the levels, so both kinds can be compared.
    numbers["bits"] = bits_per_dim(bound.elbo, digit[0].numel(), levels=17 if density else 1)
    return numbers, images


def main(path=None, epochs=60, hidden=(256,), likelihoods=LIKELIHOODS, shown=6):
    (digit,), results, pictures = next(iter(data.batches(data.load("digits").test, 300))), {}, {}
    for name, spec in likelihoods.items():
        results[name], pictures[name] = compare(spec, digit, epochs, hidden)
        if len(results) == 1:
            print(f"{'':22}" + "".join(f"{column:>11}" for column in results[name]))
        print(f"{name:22}" + "".join(f"{number:11.2f}" for number in results[name].values()))
    if path:
        picture = Figure(figsize=(14, 2.4), dpi=150, layout="constrained")
        for axis, title in zip(axes := picture.subplots(1, 6), pictures[name], strict=True):
            strips = torch.stack([images[title][:shown, 0] for images in pictures.values()])
            grid = torch.nn.functional.pad(strips, (1, 1, 1, 1)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
            axis.imshow(grid.numpy(), cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[], title=f"{title}s")
        axes[0].set_yticks([4.5 + 10 * i for i in range(len(pictures))], list(pictures))
        picture.savefig(path)
    return results


if __name__ == "__main__":
    main(*sys.argv[1:2])
