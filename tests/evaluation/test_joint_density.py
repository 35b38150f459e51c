"""Log p(x) from a compiled graph equals log p(x) without one."""

from __future__ import annotations

import pytest
import torch

from pyro_vae import VAE, evaluation
from tests.conftest import make_context, make_vae, make_x


@pytest.mark.parametrize("context", [0, 4])
def test_it_is_the_same_compiled(context):
    """Blocks of 64 examples and one of 6; chunks of draws, the last of them shorter."""
    vae, x, c = make_vae(context=context), make_x(n=70), make_context(context, n=70)
    plain = evaluation.importance_sampling(vae, x, *c, num_particles=300, compiled=False)
    found = evaluation.importance_sampling(vae, x, *c, num_particles=300, compiled=True, chunk_size=700)
    torch.testing.assert_close(found.log_prob, plain.log_prob, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.standard_error, plain.standard_error, rtol=1e-8, atol=1e-10)


def test_data_outside_the_support_are_refused_in_every_block():
    vae, x = make_vae(), make_x(n=130)
    x[100, 0, 0] = 0.5
    with pytest.raises(ValueError, match="needs x in {0, 1}"):
        evaluation.importance_sampling(vae, x, num_particles=300, compiled=True, chunk_size=700)


def test_what_cannot_be_captured_runs_as_it_is():
    vae, x = make_vae(), make_x(n=10)
    likelihood, calls = vae.likelihood, []

    def by_value(z):
        calls.append(float(z.sum()))
        return likelihood(z)

    expected = evaluation.importance_sampling(vae, x, num_particles=50)
    reading = VAE(vae.prior, by_value, vae.posterior)
    found = evaluation.importance_sampling(reading, x, num_particles=50, compiled=True, chunk_size=100)
    torch.testing.assert_close(found.log_prob, expected.log_prob)
    assert len(calls) > 4
