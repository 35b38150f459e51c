"""Train a VAE with nothing but Pyro: its model, its guide, SVI, Adam and Trace_ELBO.

    python examples/svi_by_hand.py

There is nothing here of what `pyro_vae.fit` adds (schedules, validation, run folders, pictures). `vae.model` and
`vae.guide` are plain Pyro programs.
"""

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO

from pyro_vae import VAE, average_elbo, data, likelihoods, nets, posteriors, priors


def main(epochs: int = 40) -> float:
    torch.manual_seed(0)
    digits = data.load("digits", binarize="dynamic")  # 8 x 8 pixels, embedded: no network needed
    train = data.batches(digits.train, 64, shuffle=True, seed=0)

    vae = VAE(
        prior=priors.StandardNormal(8),
        likelihood=likelihoods.Bernoulli(nets.MLP(8, (128,), (1, 8, 8))),
        posterior=posteriors.DiagonalNormal(nets.MLP((1, 8, 8), (128,), 2 * 8)),
    )
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 3e-3}), loss=Trace_ELBO())

    for epoch in range(epochs):
        loss = sum(svi.step(x) for (x,) in train.epoch(epoch))  # nats, summed over the examples
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3}  elbo {-loss / train.examples:.2f} nats an image")

    test = average_elbo(vae, digits.test)
    print(f"test elbo {test.elbo:.2f} ± {test.standard_error:.2f} = recon {test.recon:.2f} - kl {test.kl:.2f}")
    return test.elbo


if __name__ == "__main__":
    main()
