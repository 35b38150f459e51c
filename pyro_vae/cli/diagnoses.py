"""What pyro-vae evaluate prints beyond the ELBO: labels in the codes, gaps, outliers, memorisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyro_vae import VAE, plots
from pyro_vae.cli.pictures import first, save_figure
from pyro_vae.data import DataSet, Images
from pyro_vae.evaluation import inference_gaps, linear_probe, memorisation, outlier_scores, separation
from pyro_vae.files import folder_in

__all__ = ["check_wanted", "print_gaps", "print_memorisation", "print_outliers", "print_probe"]

_PROBED = 5000  # most codes to train the classifier on, and to test it on
_COMPARED = 1000  # most images of each data set
_PICTURED = 16


def check_wanted(vae: VAE, images: Images, *, gaps: bool, others: Images | None, samples: bool) -> None:
    """Refuse, before any long computation, what cannot be printed for a VAE and its images."""
    if gaps:
        inference_gaps(vae, *first(images, 1, vae, 0), steps=1, num_particles=1, importance_particles=1)
    if others is not None and (len(images) < 2 or others.pixels.shape[1:] != images.pixels.shape[1:]):
        raise ValueError(
            f"against must have images of the run's shape, {tuple(images.pixels.shape[1:])}; {others.name} has "
            f"{tuple(others.pixels.shape[1:])}"
        )
    if samples and images.with_labels:
        raise ValueError("samples are compared with training images only for runs without labels as context")


def print_probe(vae: VAE, dataset: DataSet, images: Images, *, seed: int) -> dict[str, Any] | None:
    """Print how well a linear classifier, trained on codes of training images, reads labels from codes of other images.

    Prints nothing for the training images themselves, for labels that are context, and for labels of one class.
    """
    if images is dataset.train or images.with_labels or len(dataset.train.labels[:_PROBED].unique()) < 2:
        return None
    codes, test_codes = (
        vae.decoder_input(vae.codes(*first(part, min(_PROBED, len(part)), vae, seed))).flatten(1)
        for part in (dataset.train, images)
    )
    labels, test_labels = dataset.train.labels[: len(codes)], images.labels[: len(test_codes)]
    found = linear_probe(codes, labels, test_codes, test_labels)
    print(
        f"labels from codes by a linear classifier: {found.accuracy:.1%} ± {found.standard_error:.1%} right "
        f"(the most common label: {found.majority:.1%})"
    )
    return vars(found)


def print_gaps(vae: VAE, images: Images, *, n: int, num_particles: int, seed: int) -> dict[str, Any]:
    """Print log p(x) − ELBO on the first n images, split into the approximation and the amortisation gap."""
    x, *context = first(images, n, vae, seed)
    found = inference_gaps(vae, x, *context, importance_particles=num_particles, seed=seed)
    means = found.means
    print(
        f"log p(x) - elbo {means['log_prob'] - means['elbo']:.2f} = approximation gap {means['approximation']:.2f} "
        f"(the family of q) + amortisation gap {means['amortisation']:.2f} (the encoder; {n:,} images)"
    )
    return {"images": n, "num_particles": num_particles, **means}


def print_outliers(vae: VAE, images: Images, others: Images, *, seed: int) -> dict[str, Any]:
    """Print how well scores tell images of another data set from those of the run's data set."""
    n = min(_COMPARED, len(images) // 2, len(others))
    near, (far, *far_context) = first(images[: 2 * n], 2 * n, vae, seed), first(others, n, vae, seed)
    reference = -outlier_scores(vae, *(t[:n] for t in near), seed=seed)["log_prob"]
    inside = outlier_scores(vae, *(t[n:] for t in near), reference=reference, seed=seed)
    outside = outlier_scores(vae, far, *far_context, reference=reference, seed=seed)
    found = separation(inside, outside)
    areas = ", ".join(f"{name} {area:.3f}" for name, area in found.items())
    print(f"{others.name} against {images.name}, area under the ROC curve (0.5 is chance): {areas}")
    return {"against": others.name, "images": n, "auroc": found}


def print_memorisation(run: str, vae: VAE, trained: Images, images: Images, *, n: int, seed: int) -> dict[str, Any]:
    """Print whether samples are nearer to training images than held-out images are, and draw the nearest pairs."""
    train, test = (first(part, len(part), vae, seed)[0] for part in (trained, images[:n]))
    samples = vae.sample(n, seed=seed)
    found = memorisation(samples, train, test)
    print(
        f"samples nearer to a training image than all but {found.quantile:.0%} of the held-out images: "
        f"{found.fraction:.1%} of {n:,} (median distance {found.sample_median:.2f}, held out {found.test_median:.2f})"
    )
    if plots.is_image(tuple(train.shape[1:])):
        shown = found.suspects[:_PICTURED]
        nearest = train[found.neighbours.indices[shown, 0]]
        path = folder_in(Path(run), "figures") / "nearest.png"
        title = "The samples nearest to a training image, each above that image"
        save_figure(plots.reconstructions(samples[shown], nearest, title=title), path)
        print(f"figure    {path}")
    kept = ("fraction", "threshold", "quantile", "sample_median", "test_median")
    return {"samples": n, **{name: getattr(found, name) for name in kept}}
