"""The example that estimates log p(x) of digits in several ways."""

from __future__ import annotations

import torch

from tests.end_to_end.digits_as_files import BOTH_SLOWLY
from tests.end_to_end.test_examples import example


@BOTH_SLOWLY
def test_the_estimates_agree(digits_from, tmp_path, capsys):
    """Four z-scores of means below 4 and 20 of examples below 5: together 2.6e-4, on a fixed seed."""
    settings = {"epochs": 60, "hidden": (64,), "temperatures": 40, "chains": 8, "num_particles": 2000}
    rows, scores = example("log_likelihood").main(tmp_path / "figure.png", images=5, **settings)
    assert len(scores) == 4
    assert all(abs(z) < 4 for z in scores.values())
    for _, _, exact, found in rows:
        assert exact.converged.all()
        assert (exact.error < 1.5e-6).all()
        assert (found.standard_error < 0.5).all()
        assert ((found.log_prob - exact.log_prob).abs() < 5 * found.standard_error).all()
    bounds = [bound.mean() for bound in rows[0][3].bounds.values()]
    assert len(bounds) == 4
    assert torch.stack(bounds).diff().min() > 0
    assert "annealed, from below" in capsys.readouterr().out
    assert (tmp_path / "figure.png").stat().st_size > 10_000
