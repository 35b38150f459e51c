"""What pyro-vae evaluate prints beyond the ELBO: labels in the codes, gaps, outliers, memorisation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pyro_vae import VAE, plots
from pyro_vae.argument_checks import at_least
from pyro_vae.cli.pictures import first, save_figure
from pyro_vae.cli.rows import drawn, label_column
from pyro_vae.cli.words import with_options
from pyro_vae.data import DataSet, Split
from pyro_vae.data.table_frames import as_frame
from pyro_vae.evaluation import inference_gaps, linear_probe, memorisation, outlier_scores, separation, synthetic
from pyro_vae.evaluation.synthetic_rows import FEWEST_ROWS
from pyro_vae.files import folder_in

__all__ = ["check_wanted", "print_gaps", "print_outliers", "print_probe", "print_samples"]

_PROBED = 5000  # most codes to train the classifier on, and to test it on
_COMPARED = 1000  # most examples of each data set
_PICTURED = 16


def check_wanted(vae: VAE, examples: Split, *, gaps: bool, others: Split | None, samples: int) -> None:
    """Refuse, before any long computation, what cannot be printed for a VAE and its examples."""
    if gaps:
        inference_gaps(vae, *first(examples, 1, vae, 0), steps=1, num_particles=1, importance_particles=1)
    if others is not None and (len(examples) < 2 or others.event_shape != examples.event_shape):
        raise ValueError(
            f"against must have {examples.noun}s of the run's shape, {examples.event_shape}; {others.name} has "
            f"{others.event_shape}"
        )
    if samples and vae.schema is not None:
        at_least("samples", samples, FEWEST_ROWS, "to compare them with the rows of a table")
        at_least("the number of held-out rows", len(examples), FEWEST_ROWS, "to compare samples with them")


def print_probe(vae: VAE, dataset: DataSet[Any], examples: Split, *, seed: int) -> dict[str, Any] | None:
    """Print how well a linear classifier, trained on codes of training data, reads labels from codes of other data.

    Prints nothing for the training examples themselves, for labels that are context, and for labels of one class.
    """
    trained, tested = dataset.train.labels, examples.labels
    if examples is dataset.train or examples.with_labels or trained is None or tested is None:
        return None
    if len(trained[:_PROBED].unique()) < 2:
        return None
    codes, test_codes = (
        vae.decoder_input(vae.codes(*first(part, min(_PROBED, len(part)), vae, seed))).flatten(1)
        for part in (dataset.train, examples)
    )
    found = linear_probe(codes, trained[: len(codes)], test_codes, tested[: len(test_codes)])
    print(
        f"labels from codes by a linear classifier: {found.accuracy:.1%} ± {found.standard_error:.1%} right "
        f"(the most common label: {found.majority:.1%})"
    )
    return vars(found)


def print_gaps(vae: VAE, examples: Split, *, n: int, num_particles: int, seed: int) -> dict[str, Any]:
    """Print log p(x) − ELBO on the first n examples, split into the approximation and the amortisation gap."""
    x, *context = first(examples, n, vae, seed)
    found = inference_gaps(vae, x, *context, importance_particles=num_particles, seed=seed)
    means = found.means
    print(
        f"log p(x) - elbo {means['log_prob'] - means['elbo']:.2f} = approximation gap {means['approximation']:.2f} "
        f"(the family of q) + amortisation gap {means['amortisation']:.2f} (the encoder; {n:,} {examples.noun}s)"
    )
    return {"examples": n, "num_particles": num_particles, **means}


def print_outliers(vae: VAE, examples: Split, others: Split, *, seed: int) -> dict[str, Any]:
    """Print how well scores tell examples of another data set from those of the run's data set."""
    n = min(_COMPARED, len(examples) // 2, len(others))
    near, (far, *far_context) = first(examples[: 2 * n], 2 * n, vae, seed), first(others, n, vae, seed)
    reference = -outlier_scores(vae, *(t[:n] for t in near), seed=seed)["log_prob"]
    inside = outlier_scores(vae, *(t[n:] for t in near), reference=reference, seed=seed)
    outside = outlier_scores(vae, far, *far_context, reference=reference, seed=seed)
    found = separation(inside, outside)
    areas = ", ".join(f"{name} {area:.3f}" for name, area in found.items())
    print(f"{others.name} against {examples.name}, area under the ROC curve (0.5 is chance): {areas}")
    return {"against": others.name, "examples": n, "auroc": found}


def print_samples(run: str, vae: VAE, train: Split, test: Split, n: int, seed: int) -> dict[str, Any]:
    """Compare samples with the data, and print the result; how good they are for a table, else whether they copy."""
    if vae.schema is not None:
        return {"synthetic": _print_synthetic(run, vae, train, test, n=n, seed=seed)}
    return {"memorisation": _print_memorisation(run, vae, train, test, n=n, seed=seed)}


def _print_memorisation(run: str, vae: VAE, trained: Split, examples: Split, *, n: int, seed: int) -> dict[str, Any]:
    """Print whether samples are nearer to training examples than held-out examples are, and draw the nearest pairs."""
    noun = examples.noun
    train, test = (first(part, len(part), vae, seed)[0] for part in (trained, examples[:n]))
    samples = vae.sample(n, *first(drawn(trained, n, seed), n, vae, seed)[1:], seed=seed)
    found = memorisation(samples, train, test)
    print(
        f"samples nearer to a training {noun} than all but {found.quantile:.0%} of the held-out {noun}s: "
        f"{found.fraction:.1%} of {n:,} (median distance {found.sample_median:.2f}, held out {found.test_median:.2f})"
    )
    if plots.is_image(tuple(train.shape[1:])):
        shown = found.suspects[:_PICTURED]
        nearest = train[found.neighbours.indices[shown, 0]]
        path = folder_in(Path(run), "figures") / "nearest.png"
        title = f"The samples nearest to a training {noun}, each above that {noun}"
        save_figure(plots.reconstructions(samples[shown], nearest, title=title), path)
        print(f"figure    {path}")
    kept = ("fraction", "threshold", "quantile", "sample_median", "test_median")
    return {"samples": n, **{name: getattr(found, name) for name in kept}}


def _print_synthetic(run: str, vae: VAE, trained: Split, examples: Split, *, n: int, seed: int) -> dict[str, Any]:
    """Print how good samples of a table are beside held-out rows, and draw it.

    A VAE gives complete rows. They get the gaps of training rows drawn at random, so that gaps tell nothing apart, and
    the labels of these rows if the VAE takes labels.
    """
    assert vae.schema is not None, "it is the VAE of a table"
    given = drawn(trained, n, seed)
    train, held_out, gaps = (
        as_frame(vae.schema, torch.cat(list(part.stored()))) for part in (trained, examples, given)
    )
    samples: Any = vae.sample(n, *first(given, n, vae, seed)[1:], seed=seed)
    samples = samples.mask(gaps.isna().to_numpy())
    if examples.with_labels:
        train, held_out, samples = (
            frame.assign(**label_column(part, frame.columns))
            for frame, part in ((train, trained), (held_out, examples), (samples, given))
        )
    report = synthetic(train, samples, held_out, seed=seed)
    print(f"\n{with_options(str(report))}\n")
    path = folder_in(Path(run), "figures") / "synthetic.png"
    save_figure(plots.synthetic_rows(report), path)
    print(f"figure    {path}")
    return {"samples": n, **json.loads(report.to_frame().to_json(orient="index"))}
