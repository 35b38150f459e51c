"""Show what the weight of the KL does to reconstructions and samples.

    python examples/weight_of_the_kl.py [figure.png]

Trains four VAEs on the embedded digits that differ only in the weight beta. Shows how each reconstructs test images,
and what it decodes from draws of the prior. With a small weight, codes carry much, but they do not follow the prior:
samples are no digits. With a large weight, codes carry nothing (posterior collapse). The bound on log p(x) is best at
1.
"""

import sys

import torch
from matplotlib.figure import Figure

from pyro_vae import average_elbo, build, data, fit
from pyro_vae.objectives import BetaELBO

BETAS = (0.05, 0.5, 1.0, 6.0)
SHOWN = 10


def train(beta, digits, epochs):
    torch.manual_seed(0)
    vae = build(digits.event_shape, latent_dim=10, hidden=(256,))
    fit(vae, digits.train, epochs=epochs, objective=BetaELBO(beta), progress=False)
    return vae


def main(path=None, epochs=150):
    digits = data.load("digits", binarize="dynamic")
    vaes = {beta: train(beta, digits, epochs) for beta in BETAS}
    x = torch.cat([x for x, *_ in data.batches(digits.test, SHOWN, seed=0)][:1])
    results = {}
    print("beta    recon      kl    elbo")
    for beta, vae in vaes.items():
        results[beta] = found = average_elbo(vae, digits.test, num_particles=10)
        print(f"{beta:<5}  {found.recon:6.2f}  {found.kl:6.2f}  {found.elbo:6.2f}")
    if path:
        picture = Figure(figsize=(11, 5.2), dpi=150, layout="constrained")
        for row, (beta, vae) in zip(picture.subplots(len(BETAS), 2), vaes.items(), strict=True):
            pictures = {"reconstructions (below the originals)": torch.cat([x, vae.reconstruct(x)])}
            pictures["samples from the prior"] = vae.sample(2 * SHOWN, mean=True, seed=1)
            for axis, (title, images) in zip(row, pictures.items(), strict=True):
                grid = torch.nn.functional.pad(images[:, 0], (1, 1, 1, 1)).unflatten(0, (2, SHOWN))
                grid = grid.permute(0, 2, 1, 3).reshape(20, 10 * SHOWN)
                axis.imshow(grid, cmap="gray_r", vmin=0, vmax=1)
                axis.set(xticks=[], yticks=[], title=title if beta == BETAS[0] else None)
            row[0].set_ylabel(f"beta {beta}", rotation=0, ha="right", va="center")
        picture.savefig(path)
    return results


if __name__ == "__main__":
    main(*sys.argv[1:2])
