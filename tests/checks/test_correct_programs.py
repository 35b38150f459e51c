"""Right programs of many kinds pass, and their lines say what they must."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_vae import check
from pyro_vae.model_guide import ModelGuide
from tests.checks.mutants.common import Plain, Setup, reals
from tests.checks.mutants.plates import Subsampled
from tests.checks.right import RIGHT


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    pyro.clear_param_store()


SEE_X = (
    "a_masked_linear_decoder",
    "a_causal_convolution",
    "a_recurrent_decoder_of_tokens",
    "a_decoder_from_the_last_element_to_the_first",
    "a_decoder_of_halves",
)


def run(setup: Setup, **more):
    options = dict(setup.options)
    return check(setup.vae, setup.x, *options.pop("context", []), **{"repeats": 20} | options | more)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_passes(name):
    report = run(RIGHT[name]())
    assert report.passed, [(line.name, line.finding.detail) for line in report.failures]
    assert any(line.verdict == "passed" for line in report)


def test_there_are_many():
    assert len(RIGHT) >= 25


@pytest.mark.parametrize("name", SEE_X)
def test_a_decoder_that_sees_x_passes_in_words_and_draws_no_data(name):
    report = run(RIGHT[name](), only=["peeking", "calibration", "evidence", "trace-elbo"])
    assert "each element of x sees only earlier ones" in report["peeking"].finding.detail
    assert report["calibration"].verdict == "skipped"
    assert "p(x|z) depends on the x" in report["calibration"].finding.detail
    assert report["trace-elbo"].verdict == "passed"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", ["counts_of_thousands", "binomials_of_grey_levels", "poisson_counts_of_thousands"])
def test_large_counts_are_reached_whatever_the_seed(name, seed):
    torch.manual_seed(seed)
    report = run(RIGHT[name](), only=["reach"], seed=seed)
    assert report["reach"].verdict == "passed", report["reach"].finding.detail


def test_a_code_that_need_not_be_summed_over_is():
    report = run(RIGHT["a_class_as_code_that_need_not_be_summed_over"](), only=["enum-elbo"])
    assert report["enum-elbo"].verdict == "passed"
    report = run(RIGHT["a_class_as_code_in_a_model_that_only_takes_draws"](), only=["enum-elbo"])
    assert report["enum-elbo"].verdict == "skipped"


def test_what_is_repeated_has_the_same_terms_beyond_the_size_of_the_plate():
    """Sixty draws of 16 rows are more than the 20 examples of the plate."""
    x = reals()
    plain = ModelGuide(Plain(), x)
    z = plain.draw(60)
    expected = plain.terms(z).totals
    for how in ({"subsample_size": len(x)}, {"subsample": x}, {"subsample": torch.arange(len(x))}):

        def choose(rows: Tensor, how=how):
            return {"subsample_size": len(rows)} if "subsample_size" in how else {"subsample": rows}

        subsampled = ModelGuide(Subsampled(choose, 20), x)
        torch.testing.assert_close(subsampled.terms(z).totals, expected)


def test_the_parameters_of_a_module_of_pyros_stay_as_they_are():
    setup = RIGHT["a_module_of_pyros"]()
    before = {name: value.clone() for name, value in setup.vae.named_parameters()}
    report = run(setup, only=["reach", "trace-elbo", "gradient"])
    assert report.passed
    assert report["trace-elbo"].finding.tolerance == 1e-9  # all of the copy is in float64
    assert all(torch.equal(value, before[name]) for name, value in setup.vae.named_parameters())
    assert all(value.dtype == torch.float32 for value in setup.vae.parameters())


def test_the_score_of_a_density_whose_ends_move_is_not_compared():
    """Its mean is not zero, though the ELBO and its pathwise gradient are right."""
    names = ["gradient", "gradient-score", "gradient-landing", "gradient-doubly"]
    report = run(RIGHT["a_posterior_in_a_box"](), only=names)
    assert report["gradient"].verdict == "passed"
    assert all("is zero at some draws of p(z)" in report[name].finding.detail for name in names[1:])


def test_a_guide_without_noise_in_training_is_noted():
    class Model(Plain):
        def posterior(self, x):
            mean, log_variance = self.encode(x)
            scale = torch.exp(log_variance / 2) * (0.001 if self.training else 1.0)
            return dist.Normal(mean, scale).to_event(1)

    finding = run(Setup(Model(), reals()), only=["modes"])["modes"].finding
    assert finding.verdict == "noted"
    assert "0.001 times the spread: is their noise left out" in finding.detail


def test_differences_of_large_values_in_float32_are_no_failure():
    class Model(Plain):
        def encode(self, x):
            return super().encode(torch.log1p(x) - 14)

        def likelihood(self, z):
            return dist.GammaPoisson(5.0, 5 / torch.exp(14 + self.decoder(z))).to_event(1)

    counts = torch.poisson(torch.exp(14 + reals().double())).float()
    for seed in range(2):
        report = run(Setup(Model(), counts), only=["gradient"], float64=False, seed=seed)
        assert report["gradient"].verdict != "failed", report["gradient"].finding.detail
