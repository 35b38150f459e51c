"""train: a run, and what it is made with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

__all__ = ["train"]

# What config.yaml does not record: where files are is of one machine.
_NOT_RECORDED = ("root", "out", "resume")

_STEPS = 2000  # as many as small data get by default; large data get _EPOCHS passes
_EPOCHS = 10


def train(
    data: str = "digits",
    root: str | None = None,
    binarize: Literal["auto", "dynamic", "threshold", "none"] = "auto",
    dequantize: bool | Literal["auto"] = "auto",
    labels: bool = False,
    validate: bool = True,
    latent_dim: int = 20,
    hidden: int | list[int] = [512, 512],  # noqa: B006  # only read; it shows in --help
    activation: str = "SiLU",
    prior: str | dict[str, Any] = {"class": "StandardNormal"},  # noqa: B006
    likelihood: str | dict[str, Any] = {"class": "Bernoulli"},  # noqa: B006
    posterior: str | dict[str, Any] = {"class": "DiagonalNormal"},  # noqa: B006
    nets: Literal["mlp", "gated_mlp", "conv", "resnet"] = "mlp",
    objective: str | dict[str, Any] = {"class": "auto"},  # noqa: B006
    epochs: int | None = None,
    batch_size: int = 128,
    lr: float = 3e-3,
    schedule: Literal["cosine", "constant", "staircase"] = "cosine",
    patience: int | None = None,
    engine: Literal["auto", "compiled", "pyro"] = "auto",
    mixed_precision: bool = False,
    seed: int = 0,
    device: str = "auto",
    dtype: Literal["float32", "float64"] = "float32",
    out: str | None = None,
    resume: str | None = None,
) -> None:
    """Train a VAE; without options, on the embedded digits.

    Prints the test elbo and writes a run folder with the configuration, the weights, the history and pictures.

    Args:
        data: digits (embedded), mnist, fashion_mnist, kmnist, qmnist or emnist.
        root: folder of the data; by default $PYRO_VAE_DATA, else ~/.cache/pyro_vae.
        binarize: make pixels 0 or 1: dynamic (drawn anew each time), threshold, none; auto is dynamic under a
            Bernoulli likelihood and none under any other.
        dequantize: add uniform noise within each grey level, which a density over real pixels needs (on a grid of
            levels it grows without bound); auto does so under likelihoods that are such densities.
        labels: give the labels to the VAE as context (a conditional VAE).
        validate: hold the validation images out and keep the best epoch by them; false trains on them too, as published
            tables do, and keeps the last epoch.
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers, such as 400 or [512,256]; the decoder has them in reverse.
        activation: of the networks, by its name in torch.nn.
        prior: p(z), a class by name or dotted path, with its arguments as --prior.NAME VALUE. See pyro-vae list. Naming
            a class starts from its defaults. Naming your own imports its module; what is made of the run later needs
            --allow MODULE.
        likelihood: p(x|z), likewise, such as --likelihood normal --likelihood.scale 0.1; auto looks at the data and
            says why.
        posterior: q(z|x), likewise, such as --posterior iaf.
        nets: mlp, gated_mlp, conv or resnet, for the posterior and the likelihood. A net of your own goes to one of
            them: --posterior.net my_module.MyNet.
        objective: what is minimised, likewise, such as --objective iwae --objective.num_particles 50, or
            --objective beta --objective.beta 0.5; a schedule in the place of a weight as
            '{"class": "linear", "steps": 5000}'. auto is Pyro's Trace_ELBO, or TraceEnum_ELBO for discrete codes.
        epochs: passes over the training data; by default 10, and more on small data, to make 2,000 steps.
        batch_size: examples a step.
        lr: highest learning rate.
        schedule: of the learning rate: cosine (down to zero), constant, or staircase (down to a tenth in eight stairs,
            each three times as long as the one before, as in the IWAE paper).
        patience: stop after so many epochs without a better validation elbo.
        engine: compiled (a step is one graph, several times faster after about ten seconds of compilation) or pyro
            (pyro.infer.SVI); auto compiles from 3,000 steps on.
        mixed_precision: run the networks in bfloat16 while they train, all else in float32: faster on CPUs that have
            instructions for it (AMX); on a GPU nothing was measured. It may cost accuracy: 0.5 nats of log p(x) in the
            one long training compared.
        seed: of weights, order, binarisation and noise.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
        dtype: of the weights.
        out: run folder; by default the next free runs/DATA-NUMBER.
        resume: run folder to go on with, with its own configuration and what is given beside it.
    """
    config = {name: value for name, value in locals().items() if name not in _NOT_RECORDED}
    from pyro_vae import load
    from pyro_vae.cli import runs
    from pyro_vae.cli.pictures import draw_run
    from pyro_vae.config import make_objective
    from pyro_vae.distributions import part_name
    from pyro_vae.registry import allowed
    from pyro_vae.training import fit

    if resume is not None and out not in (None, resume):
        raise ValueError(f"resume goes on in its own folder, {resume}; leave out={out!r} away")
    runs.choose_likelihood(config, root)
    dataset = runs.load_data(config, root)
    images, valid = (dataset.train, dataset.valid) if validate else (dataset.train_and_valid, None)
    device = runs.device(device)
    vae = runs.new_vae(dataset, config)
    if epochs is None:
        epochs = max(_EPOCHS, math.ceil(_STEPS * batch_size / len(images)))
    config["epochs"] = epochs
    run = Path(resume or out or runs.free_folder(data))
    print(
        f"{part_name(vae.prior)} prior, {part_name(vae.likelihood)} likelihood, "
        f"{part_name(vae.posterior)} posterior; {sum(p.numel() for p in vae.parameters()):,} parameters on {device}\n"
        f"{data}: {len(images):,} images of {' x '.join(map(str, dataset.event_shape))} to train on, "
        f"{runs.form(dataset.train)}; {epochs} epochs"
    )
    minimised = make_objective(objective, vae)
    chosen = validate and getattr(minimised, "bounds_log_prob", True)
    history = fit(
        vae,
        images,
        valid=valid,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        schedule=schedule,
        objective=minimised,
        patience=patience,
        engine=engine,
        mixed_precision=mixed_precision,
        seed=seed,
        device=device,
        out=run,
        resume=resume is not None,
        config=config,
    )
    vae = load(run, device=device)
    kept = f"best epoch {history.best.epoch} of {len(history)}; its weights" if chosen else "the last epoch's weights"
    print(f"{kept} are in {run / 'weights.safetensors'}")
    runs.print_elbo("test", vae, dataset.test, num_particles=1, kl="sampled", seed=0)
    draw_run(run, vae, dataset)
    modules = list(allowed() or ())
    loading = f"{str(run)!r}, allow={modules}" if modules else repr(str(run))
    print(f"next      pyro-vae evaluate {run}{runs.allow_again()}   or in Python: vae = pyro_vae.load({loading})")
