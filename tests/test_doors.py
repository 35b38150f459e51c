"""The same doors everywhere: each function takes each kind of data, and gives the numbers that it gives for a tensor."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pyro_vae import VAE, average_elbo, build, check, data, elbo_terms, evaluation, fit, load, suggest
from pyro_vae.evaluation import Annealing
from pyro_vae.model_guide import ModelGuide

N, COLUMNS = 30, ["a", "b", "c", "d"]


def make_x():
    return torch.rand(N, 4, generator=torch.Generator().manual_seed(3)).round()


def make_vae(**options):
    torch.manual_seed(0)
    return build(4, 2, hidden=(6,), **options)


def as_polars(x):
    return pytest.importorskip("polars").DataFrame(x.numpy(), schema=COLUMNS)


KINDS = {
    "tensor": lambda x: x,
    "float64": lambda x: x.double(),
    "array": lambda x: x.numpy(),
    "integers": lambda x: x.numpy().astype(np.uint8),
    "DataFrame": lambda x: pd.DataFrame(x.numpy(), columns=COLUMNS),
    "nullable": lambda x: pd.DataFrame(x.numpy(), columns=COLUMNS).astype("Int64"),
    "booleans and floats": lambda x: pd.DataFrame(x.numpy(), columns=COLUMNS).astype({"a": bool}),
    "polars": as_polars,
    "sparse matrix": lambda x: scipy.sparse.csr_matrix(x.numpy()),
    "sparse array": lambda x: scipy.sparse.coo_array(x.numpy()),
    "tuple": lambda x: (x,),
    "Dataset": lambda x: TensorDataset(x, torch.arange(len(x))),  # with labels, which are not context
    "DataLoader": lambda x: DataLoader(TensorDataset(x), batch_size=len(x)),
    "split": lambda x: data.Rows(x),
    "split of bytes": lambda x: data.Rows(x.to(torch.uint8)),
    "Batches": lambda x: data.batches(x),
}

FUNCTIONS = {
    "codes": lambda vae, x: vae.codes(x),
    "encode": lambda vae, x: vae.encode(x).mean,
    "reconstruct": lambda vae, x: vae.reconstruct(x),
    "impute": lambda vae, x: vae.impute(x, num_particles=3, seed=0),
    "tensors": lambda vae, x: vae.tensors(x)[0],
    "elbo_terms": lambda vae, x: elbo_terms(vae, x, seed=0).elbo,
    "average_elbo": lambda vae, x: average_elbo(vae, x).elbo,
    "ModelGuide": lambda vae, x: ModelGuide(vae, x).x,
    "pair of functions": lambda vae, x: ModelGuide((lambda x: vae.model(x), lambda x: vae.guide(x)), x).x.double(),
    "importance_sampling": lambda vae, x: evaluation.importance_sampling(vae, x, num_particles=5).log_prob,
    "of a ModelGuide": lambda vae, x: evaluation.latent_use(ModelGuide(vae, make_x()), x).kl,
    "latent_use": lambda vae, x: evaluation.latent_use(vae, x).kl,
    "collapse": lambda vae, x: evaluation.collapse(vae, x).swapped,
    "inference_gaps": lambda vae, x: evaluation.inference_gaps(vae, x, steps=2, importance_particles=5).elbo,
    "outlier_scores": lambda vae, x: evaluation.outlier_scores(vae, x, num_particles=5)["kl"],
    "quadrature": lambda vae, x: evaluation.quadrature(vae, x, max_evaluations=300).log_prob,
    "annealing": lambda vae, x: (
        evaluation.annealed_importance_sampling(vae, x, num_particles=2, annealing=Annealing(2, 1)).log_prob
    ),
    "nearest": lambda vae, x: evaluation.nearest(x, make_x() + 0.25).distances,
    "memorisation": lambda vae, x: evaluation.memorisation(make_x() + 0.25, x, make_x() - 0.5).sample_median,
    "suggest": lambda vae, x: [str(s) for s in suggest(x)],
    "check": lambda vae, x: [check(vae, x, only=["shapes", "trace-elbo"], progress=False).passed],
    "build": lambda vae, x: repr(build(data=x, latent_dim=2, hidden=(6,))),
    "Predictive programs": lambda vae, x: vae.model(x),
}

SLOW = ("quadrature", "annealing")  # take two kinds alone


@pytest.mark.filterwarnings("ignore")  # of too few draws
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_kind_of_data_gives_the_numbers_of_a_tensor(function):
    expected = FUNCTIONS[function](make_vae(missing=True), make_x())
    for kind, wrap in KINDS.items():
        if (function in SLOW and kind not in ("DataFrame", "split")) or (kind == "polars" and not _has_polars()):
            continue
        found = FUNCTIONS[function](make_vae(missing=True), wrap(make_x()))
        if isinstance(expected, Tensor):
            assert torch.allclose(found.double(), expected.double()), kind
        else:
            assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected, kind


def _has_polars():
    try:
        import polars  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("Batches", "polars")])
def test_fit_trains_on_every_kind(kind, tmp_path):
    vae, other = make_vae(), make_vae()
    options = {"epochs": 2, "batch_size": 8, "progress": False, "lr": 0.05}
    expected = fit(other, make_x(), valid=make_x(), **options)
    history = fit(vae, KINDS[kind](make_x()), valid=KINDS[kind](make_x()), out=tmp_path, **options)
    if kind not in ("DataLoader", "Dataset"):  # torch's own order
        assert [e.loss for e in history] == pytest.approx([e.loss for e in expected])
    assert torch.equal(load(tmp_path).codes(make_x()), vae.codes(make_x()))


def test_a_table_that_is_trained_on_leaves_its_columns_and_its_fingerprint(tmp_path):
    frame = pd.DataFrame(make_x().numpy(), columns=COLUMNS)
    fit(make_vae(), frame, epochs=1, progress=False, out=tmp_path)
    with pytest.raises(ValueError, match="was trained on other data"):
        fit(make_vae(), 1 - frame, epochs=2, progress=False, out=tmp_path, resume=True)
    assert '"columns": [\n' in (tmp_path / "data.json").read_text().replace('"columns": ["a"', '"columns": [\n')


# Data that come a batch at a time.


def test_large_data_go_through_in_batches_and_in_order():
    x = torch.rand(2500, 4).round()
    vae, mask = make_vae(missing=True), torch.rand(2500, 4) > 0.3
    for wrap in (KINDS["split"], KINDS["Dataset"], KINDS["sparse matrix"], lambda x: DataLoader(TensorDataset(x), 7)):
        assert torch.allclose(vae.codes(wrap(x)), vae.codes(x), atol=1e-6)
        assert torch.allclose(vae.codes(wrap(x), mask=mask), vae.codes(x, mask=mask), atol=1e-6)
        assert torch.allclose(vae.reconstruct(wrap(x)), vae.reconstruct(x), atol=1e-6)


def test_images_of_a_split_are_binarised_by_the_seed():
    digits = data.load("digits", binarize="dynamic").test
    vae = build(digits.event_shape, 2, hidden=(6,))
    assert torch.equal(vae.codes(digits), vae.codes(digits, seed=0))
    assert not torch.equal(vae.codes(digits), vae.codes(digits, seed=1))
    (x,) = next(iter(data.batches(digits, 300, seed=0)))
    assert torch.allclose(vae.codes(digits), vae.codes(x), atol=1e-6)


@pytest.mark.parametrize("function", ["codes", "reconstruct", "encode", "importance_sampling", "nearest"])
def test_results_in_another_order_than_the_data_are_refused(function):
    loader = DataLoader(TensorDataset(make_x()), batch_size=8, shuffle=True)
    with pytest.raises(ValueError, match="the DataLoader shuffles, .*Give its dataset: loader.dataset$"):
        FUNCTIONS[function](make_vae(), loader)
    with pytest.raises(ValueError, match="the Batches shuffles, .*Leave shuffle out$"):
        FUNCTIONS[function](make_vae(), data.batches(make_x(), shuffle=True))


def test_averages_take_any_order():
    loader = DataLoader(TensorDataset(make_x()), batch_size=8, shuffle=True)
    assert average_elbo(make_vae(), loader).examples == N
    assert check(make_vae(), loader, only=["shapes"], progress=False).passed


def test_check_takes_the_first_examples_and_says_so():
    x = torch.rand(250, 4).round()
    report = check(make_vae(), data.Rows(x), only=["shapes"], progress=False)
    assert report.subject.endswith("on the first 100 examples of shape (4,)")
    assert check(make_vae(), x[:7], only=["shapes"], progress=False).subject.endswith("on 7 examples of shape (4,)")


def test_what_is_missing_in_a_table_is_missing():
    x = make_x()
    x[3, 1] = torch.nan
    vae = make_vae(missing=True)
    frame = pd.DataFrame(x.numpy(), columns=COLUMNS)
    frames = [frame, frame.astype("Int64"), frame.astype(object).where(frame.notna(), None), frame.astype("boolean")]
    for of in (*frames, data.Rows(x)):
        assert torch.equal(vae.impute(of, seed=0), vae.impute(x, seed=0))
    assert not torch.isnan(vae.impute(frame, seed=0)).any()


# Labels as context.


def labels_of(n=N):
    return torch.arange(n) % 3


LABELS = {
    "tensor": lambda y: y,
    "array": lambda y: y.numpy(),
    "bytes": lambda y: y.numpy().astype(np.uint8),
    "Series": lambda y: pd.Series(y.numpy()),
    "DataFrame": lambda y: pd.DataFrame({"label": y.numpy()}),
    "one-hot integers": lambda y: torch.nn.functional.one_hot(y, 3),
    "one-hot booleans": lambda y: torch.nn.functional.one_hot(y, 3).bool(),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_become_one_hot(kind):
    vae, x, hot = make_vae(context_features=3), make_x(), torch.nn.functional.one_hot(labels_of(), 3).float()
    y = LABELS[kind](labels_of())
    assert torch.equal(vae.codes(x, y), vae.codes(x, hot))
    assert torch.equal(vae.reconstruct(x, y), vae.reconstruct(x, hot))
    assert torch.equal(vae.sample(N, y, seed=0), vae.sample(N, hot, seed=0))
    assert average_elbo(vae, (x, y)) == average_elbo(vae, (x, hot))
    assert torch.equal(ModelGuide(vae, x, y).context[0], hot)
    found, expected = (evaluation.importance_sampling(vae, x, c, num_particles=5) for c in (y, hot))
    assert torch.equal(found.log_prob, expected.log_prob)


@pytest.mark.parametrize(
    "options", [{}, {"prior": {"class": "conditional", "prior": "StandardNormal"}}, {"prior": "vamp"}]
)
def test_labels_train_as_one_hot_does_and_the_run_knows_the_classes(tmp_path, options):
    options = options | ({"prior": {"class": "vamp", "components": 5}} if options.get("prior") == "vamp" else {})
    if "conditional" in str(options):
        options = {"prior": {"class": "conditional", "prior": {"class": "mixture", "components": 2}}}
    x, y = make_x(), labels_of()
    vae, other = make_vae(context_features=3, **options), make_vae(context_features=3, **options)
    training = {"epochs": 2, "progress": False}
    found = fit(vae, (x, y), out=tmp_path, **training)
    expected = fit(other, (x, torch.nn.functional.one_hot(y, 3).float()), **training)
    assert [e.loss for e in found] == [e.loss for e in expected]
    assert torch.equal(load(tmp_path).codes(x, y), vae.codes(x, y))


@pytest.mark.slow
def test_compiled_steps_take_labels():
    x, y = make_x(), labels_of()
    vae, other = make_vae(context_features=3), make_vae(context_features=3)
    training = {"epochs": 2, "progress": False, "batch_size": 15, "seed": 1}
    found = fit(vae, (x, y), engine="compiled", **training)
    assert [e.loss for e in found] == pytest.approx([e.loss for e in fit(other, (x, y), engine="pyro", **training)])


def test_data_bring_their_context():
    vae, x, y = make_vae(context_features=3), make_x(), labels_of()
    split = data.Rows(x, labels=y, classes=3, with_labels=True)
    for source in (split, TensorDataset(x, y), DataLoader(TensorDataset(x, y), batch_size=7), (x, y)):
        assert torch.allclose(vae.codes(source), vae.codes(x, y), atol=1e-6)
        assert torch.allclose(vae.encode(source).mean, vae.codes(x, y), atol=1e-6)
        assert check(vae, source, only=["shapes"], progress=False).passed
    assert torch.equal(vae.codes(data.Rows(x), y), vae.codes(x, y))
    with pytest.raises(ValueError, match="the data bring a context of their own. Leave the context after them out"):
        vae.codes(split, y)
    with pytest.raises(ValueError, match="context 0 must have one row per example: at least 30; got 29"):
        vae.codes(data.Rows(x), y[:29])
    with pytest.raises(ValueError, match="context 0 must have one row per example: 30; got 31"):
        vae.codes(data.Rows(x), labels_of(31))


def test_labels_beside_numbers():
    vae, x, y = make_vae(context_features=5), make_x(), labels_of()
    ages = torch.rand(N, 2)
    hot = torch.nn.functional.one_hot(y, 3).float()
    assert torch.equal(vae.codes(x, y, ages), vae.codes(x, hot, ages))
    one = make_vae(context_features=1)
    assert torch.equal(one.codes(x, ages[:, 0]), one.codes(x, ages[:, :1]))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (labels_of() + 1, "context 0 has the label 3, but the VAE was built for 3 classes: labels are 0 to 2"),
        (labels_of() - 1, "context 0 has the label -1, but the VAE was built for 3 classes: labels are 0 to 2"),
        (labels_of().float(), r"context 0 must be integer labels \(30,\) from 0 to 2, or numbers \(30, 3\)"),
        (labels_of()[:29], "context 0 must have one row per example"),
    ],
)
def test_wrong_labels_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        make_vae(context_features=3).codes(make_x(), y)
    with pytest.raises(ValueError, match=message):
        fit(make_vae(context_features=3), (make_x(), y), epochs=1, progress=False)


def test_two_columns_of_labels_must_be_one_hot():
    with pytest.raises(ValueError, match="context 0 and 1 have one number per example, .*how many classes each has"):
        make_vae(context_features=5).codes(make_x(), labels_of(), labels_of())


def test_programs_of_ones_own_get_labels_as_they_are():
    class Own(type(make_vae())):
        def model(self, x, y):
            return super().model(x, torch.nn.functional.one_hot(y, 3).float())

        def guide(self, x, y):
            return super().guide(x, torch.nn.functional.one_hot(y, 3).float())

    of = make_vae(context_features=3)
    own = Own(of.prior, of.likelihood, of.posterior)
    assert own.context_features == 0
    assert ModelGuide(own, make_x(), labels_of()).context[0].dtype == torch.int64
    assert average_elbo(own, (make_x(), labels_of())) == average_elbo(of, (make_x(), labels_of()))


# build(data=...)


def test_build_reads_what_the_data_say():
    x = make_x()
    x[0, 0] = torch.nan
    vae = build(data=pd.DataFrame(x.numpy(), columns=COLUMNS), latent_dim=2)
    assert vae.missing
    assert vae.codes(x).shape == (N, 2)
    digits = data.load("digits", labels=True)
    vae = build(data=digits, latent_dim=3, hidden=(6,))
    assert vae.context_features == 10
    assert vae.likelihood.levels == 17
    assert vae.codes(digits.test).shape == (300, 3)
    assert build(data=(make_x(), labels_of()), hidden=(6,)).context_features == 3
    assert build((4,), 2, data=make_x(), likelihood="Poisson", hidden=(6,)).likelihood.data == "counts"


def test_build_warns_of_data_that_must_be_prepared():
    x = 100 + 20 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="likelihood Normal fits data that are prepared first: Standardise"):
        build(data=x, latent_dim=2, hidden=(6,))


def test_sparse_counts_bring_their_library_sizes():
    x = scipy.sparse.random(60, 12, density=0.3, random_state=np.random.default_rng(0)).toarray()
    x = np.round(50 * x) + np.eye(60, 12)
    x[:, 0] += 1
    counts = scipy.sparse.csr_array(x)
    vae = build(data=counts, latent_dim=2, hidden=(6,), inputs="log1p")
    assert vae.likelihood.library
    fit(vae, counts, epochs=2, progress=False)
    library = torch.from_numpy(x).sum(1, keepdim=True).log()
    for source in (counts, data.Counts(counts)):
        assert torch.allclose(vae.codes(source), vae.codes(x, library), atol=1e-6)
        assert torch.allclose(vae.reconstruct(source), vae.reconstruct(x, library), rtol=1e-4)
        found, expected = average_elbo(vae, source), average_elbo(vae, (x, library))
        assert found.elbo == pytest.approx(expected.elbo)
        assert torch.allclose(elbo_terms(vae, source, seed=0).recon, elbo_terms(vae, x, library, seed=0).recon)
        assert check(vae, source, only=["shapes"], progress=False).passed
    without = build(12, 2, hidden=(6,), likelihood="poisson")
    assert torch.equal(without.codes(data.Counts(counts)), without.codes(x))
    assert check(without, data.Counts(counts), only=["shapes"], progress=False).passed


def test_mixed_columns_come_by_name():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"smokes": rng.random(200) < 0.5, "height": rng.normal(size=200)})
    vae = build(data=frame, latent_dim=2, hidden=(6,))
    assert list(vae.likelihood.columns) == ["smokes", "height"]
    assert vae.codes(frame).shape == (200, 2)
    assert torch.equal(vae.codes(frame[["height", "smokes"]]), vae.codes(frame))
    plain = VAE(vae.prior, vae.likelihood, vae.posterior)  # which does not know the schema
    with pytest.raises(ValueError, match="x has column 'height' where likelihood Mixed has another. Give the columns"):
        plain.codes(frame[["height", "smokes"]])


def test_the_epochs_by_default_are_those_of_the_command_line():
    from pyro_vae.training.options import usual_epochs

    assert [usual_epochs(n, 128) for n in (55_000, 1297, 128, 20, 0)] == [10, 198, 2000, 2000, 10]

    def stop(epoch):
        raise KeyboardInterrupt

    for source, epochs in ((make_x(), 2000), (DataLoader(TensorDataset(make_x()), batch_size=1), 67)):
        with pytest.raises(KeyboardInterrupt, match=f"epoch 1 of {epochs} is kept"):
            fit(make_vae(), source, batch_size=30, progress=False, engine="pyro", on_epoch=stop)


def test_a_training_goes_on_to_its_own_length(tmp_path):
    def stop(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make_vae(), make_x(), epochs=4, progress=False, out=tmp_path, on_epoch=stop)
    assert len(fit(make_vae(), make_x(), progress=False, out=tmp_path, resume=True)) == 4


def test_dataclasses_of_results_stay_comparable():
    found = average_elbo(make_vae(), KINDS["DataFrame"](make_x()))
    assert dataclasses.asdict(found) == dataclasses.asdict(average_elbo(make_vae(), make_x()))
