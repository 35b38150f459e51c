"""Train on a table with columns of different kinds, in which 30 % of the values are missing.

    python examples/mixed_table.py

The table holds scikit-learn's wines: thirteen real measurements, and the cultivar, which is one of three classes. Each
column gets its own likelihood by name. The VAE learns from the values that are given and fills in the others.
"""

import numpy as np
import torch
from sklearn.datasets import load_wine

from pyro_vae import build, fit, suggest


def incomplete_wines(missing: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """The table, measurements standardised and the cultivar last; the same with NaN for what is missing; the names."""
    wines = load_wine()
    table = torch.tensor(np.column_stack([wines.data, wines.target]), dtype=torch.float32)
    hidden = torch.rand(table.shape, generator=torch.Generator().manual_seed(seed)) < missing
    given = table.masked_fill(hidden, torch.nan)
    # Only what is there may be used, so mean and standard deviation too are those of the values that are left.
    mean = given.nanmean(0)
    deviation = (given - mean).square().nanmean(0).sqrt()
    mean[-1], deviation[-1] = 0, 1  # classes stay the codes 0, 1, 2
    return (table - mean) / deviation, (given - mean) / deviation, [*wines.feature_names, "cultivar"]


def main(epochs: int = 300, seed: int = 0) -> dict[str, float]:
    table, given, names = incomplete_wines(missing=0.3, seed=seed)
    suggestion = suggest(given, names)[0]  # Mixed: Normal for the reals, Categorical for the cultivar
    print(suggestion)

    torch.manual_seed(seed)
    vae = build(len(names), latent_dim=5, hidden=(64,), likelihood=suggestion.likelihood, missing=True)
    fit(vae, given, epochs=epochs, batch_size=64, seed=seed, progress=False)

    # A measurement's best guess is its expectation given what was observed of its wine.
    imputed = vae.impute(given, num_particles=200, seed=seed)[:, :-1]
    missing = given.isnan()
    squares = (imputed - table[:, :-1]).square().masked_fill(~missing[:, :-1], torch.nan)
    means = table[:, :-1].square().masked_fill(~missing[:, :-1], torch.nan)  # the mean of the given values is 0
    deviation = table[:, :-1].std(0)

    # A class has no expectation that would be a class: take the most probable one.
    cultivars = vae.decode(vae.codes(given)).columns[-1]
    log_p = torch.stack([cultivars.log_prob(torch.full((len(given), 1), float(k))) for k in range(3)])
    lost = missing[:, -1]
    commonest = given[~lost, -1].mode().values

    results = {
        "NRMSE, VAE": (squares.nanmean(0).sqrt() / deviation).mean().item(),
        "NRMSE, column means": (means.nanmean(0).sqrt() / deviation).mean().item(),
        "accuracy, VAE": (log_p.argmax(0) == table[:, -1])[lost].float().mean().item(),
        "accuracy, commonest class": (table[lost, -1] == commonest).float().mean().item(),
    }
    for name, value in results.items():
        print(f"{name:26} {value:.3f}")
    return results


if __name__ == "__main__":
    main()
