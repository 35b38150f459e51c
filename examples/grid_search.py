"""Which latent size? A grid search of scikit-learn over a VAE in a pipeline, on digits and on wine.

    python examples/grid_search.py

The VAE is trained without the classes, on all rows of a fold's training part. For each latent size the search has two
figures, on the parts that were left out: the accuracy of a logistic regression on the codes, and log p(x) in nats per
row. The two need not agree: a few codes may carry the classes, and more of them the rest of x.
"""

from __future__ import annotations

import time
import warnings

from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from pyro_vae import VAETransformer

SIZES = {"digits": (2, 8, 16), "wine": (1, 2, 4)}
LOADERS = {"digits": load_digits, "wine": load_wine}
# Pixels of digits are levels from 0 to 16; what columns of wine hold, the VAE sees.
LIKELIHOODS = {"digits": {"class": "DiscretizedLogistic", "levels": 17, "upper": 16.0}, "wine": "auto"}
EPOCHS = {"digits": 10, "wine": 50}


def density(pipeline: Pipeline, x, y=None) -> float:
    """The mean of log p(x) under the VAE of a pipeline."""
    return pipeline["vae"].score(x)


def search(name: str, sizes: tuple[int, ...], epochs: int) -> GridSearchCV:
    """A search over latent sizes, with the VAE as the first step: its x are the raw columns."""
    x, y = LOADERS[name](return_X_y=True, as_frame=True)
    vae = VAETransformer(
        hidden=(64,),
        likelihood=LIKELIHOODS[name],
        epochs=epochs,
        batch_size=64,
        lr=0.01,
        num_particles=50,
        random_state=0,
    )
    pipeline = Pipeline([("vae", vae), ("scale", StandardScaler()), ("classify", LogisticRegression(max_iter=1000))])
    found = GridSearchCV(
        pipeline,
        {"vae__latent_dim": sizes},
        scoring={"accuracy": "accuracy", "log p(x)": density},
        refit="accuracy",
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        error_score="raise",
    )
    return found.fit(x, y)


def main(tables: tuple[str, ...] = ("digits", "wine"), epochs: int | None = None) -> dict[str, GridSearchCV]:
    """Print accuracy and log p(x) by latent size; return the searches."""
    warnings.filterwarnings("ignore", message="importance_sampling")  # 50 draws, to compare
    found = {}
    for name in tables:
        start = time.perf_counter()
        found[name] = search(name, SIZES[name], epochs or EPOCHS[name])
        results = found[name].cv_results_
        print(f"{name}: {time.perf_counter() - start:.0f} s\nlatent size  accuracy  log p(x)")
        columns = (results[f"mean_test_{score}"] for score in ("accuracy", "log p(x)"))
        for size, accuracy, log_p in zip(SIZES[name], *columns, strict=True):
            print(f"{size:11d}  {accuracy:8.3f}  {log_p:8.2f}")
        print(f"most accurate: {found[name].best_params_['vae__latent_dim']}\n")
    return found


if __name__ == "__main__":
    main()
