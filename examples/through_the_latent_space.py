"""Go from one digit to another: by mixing pixels, and through the latent space in three ways.

    python examples/through_the_latent_space.py [figure.png]

Half way between two digits, a mix of their pixels is no digit: its log p(x), under a second VAE, is far below that of
digits. A straight way through the latent space is hardly better. The prior is normal in 20 dimensions and has less than
a thousandth of its mass as near to the centre as the middle of that way, so the decoder was hardly trained there. On a
sphere, codes keep their norm, and draws are about as likely as new digits from the prior, though less likely than test
digits. A way along the nearest training codes is as good, but it jumps.
"""

import sys

import torch
from matplotlib.figure import Figure
from scipy.stats import chi

from pyro_vae import build, data, fit
from pyro_vae.evaluation import importance_sampling
from pyro_vae.vae.paths import slerp

COLUMNS = ("log p(x)", "error", "norm of z", "prior within", "largest step")


def ways(x, vae, train, t):
    codes = vae.codes(x.flatten(0, 1)).view(*x.shape[:2], -1)
    straight, sphere = (way(codes[:, :1], codes[:, -1:], t) for way in (torch.lerp, slerp))
    others = vae.codes(train)
    nearest = others[torch.cdist(sphere.flatten(0, 1), others).argmin(-1)].view_as(sphere)
    nearest[:, [0, -1]] = codes[:, [0, -1]]
    return {"pixels": codes, "straight": straight, "sphere": sphere, "by codes": nearest}


def main(path=None, pairs=50, steps=9, epochs=60, num_particles=200):
    digits, t = data.load("digits"), torch.linspace(0, 1, steps).unsqueeze(-1)
    vaes, mixture = [], {"class": "DiscretizedLogisticMixture", "levels": 17, "components": 3}
    for seed in (0, 1):
        torch.manual_seed(seed)
        vaes.append(build(digits.event_shape, latent_dim=20, hidden=(256,), likelihood=mixture))
        fit(vaes[-1], digits.train, valid=digits.valid, epochs=epochs, seed=seed, progress=False)
    vae, judge = vaes  # two, as a model could like what it made itself
    (train,), (test,) = (next(iter(data.batches(images, len(images)))) for images in (digits.train, digits.test))
    first, second = digits.test.labels.chunk(2)
    chosen = (first != second).nonzero()[:pairs]
    mixed = (16 * torch.lerp(test[chosen], test[len(first) + chosen], t[..., None, None])).round() / 16  # grey levels
    scores, norms, results, pictures = {}, {}, {}, {}
    for name, x in (("test digits", test), ("new digits", vae.sample(300, seed=0))):
        results[name] = importance_sampling(judge, x, num_particles=num_particles).mean
        print(f"{name:14}{results[name]:14.3g}")
    print(f"{'middle of way:':14}" + "".join(f"{column:>14}" for column in COLUMNS))
    for name, z in ways(mixed, vae, train, t).items():
        with torch.no_grad():
            p = vae.decode(z.flatten(0, 1))
        x, pictures[name] = (mixed, mixed) if name == "pixels" else (x.view_as(mixed) for x in (p.sample(), p.mean))
        scores[name] = importance_sampling(judge, x.flatten(0, 1), num_particles=num_particles).log_prob.view(-1, steps)
        norms[name], middle = z.norm(dim=-1), scores[name][:, steps // 2]
        norm, largest = norms[name][:, steps // 2].mean().item(), pictures[name].diff(dim=1).square().mean((2, 3, 4))
        numbers = middle.mean().item(), middle.std().item() / len(x) ** 0.5, norm, chi(20).cdf(norm).item()
        results[name] = dict(zip(COLUMNS, (*numbers, largest.sqrt().amax(1).mean().item()), strict=True))
        print(f"{name:14}" + "".join(f"{number:14.3g}" for number in results[name].values()))
    if path:
        picture = Figure(figsize=(13, 3.8), dpi=150, layout="constrained")
        left, *axes = picture.subplots(1, 3, width_ratios=(9, 8, 8))
        strips = torch.nn.functional.pad(torch.cat([x[:2, :, 0] for x in pictures.values()]), (1, 1, 1, 1))
        left.imshow(strips.permute(0, 2, 1, 3).flatten(2).flatten(0, 1).numpy(), cmap="gray_r")
        left.set(title="means on the way, two pairs", xticks=[], yticks=range(9, 80, 20), yticklabels=list(pictures))
        for axis, curves, title in zip(axes, (scores, norms), ("log p(x) of draws, nats", "norm of z"), strict=True):
            for name, values in curves.items():
                axis.plot(t, values.mean(0), label=name)
            axis.set(title=title, xlabel="from one digit (0) to the other (1)")
        axes[0].axhline(results["test digits"], color="black", ls=":", label="test digits")
        axes[1].axhspan(*chi(20).interval(0.95), color="#dddddd", label="95 % of the prior")
        picture.legend(handles=[*axes[0].lines, *axes[1].patches], loc="outside lower right", ncols=6, frameon=False)
        picture.savefig(path)
    return results


if __name__ == "__main__":
    main(*sys.argv[1:2])
