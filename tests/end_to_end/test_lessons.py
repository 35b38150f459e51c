"""The lessons on collapse, on blur and on ways through the latent space run, and their claims hold."""

from __future__ import annotations

import torch

from pyro_vae import build
from tests.end_to_end.digits_as_files import BOTH_SLOWLY
from tests.end_to_end.test_examples import example


@BOTH_SLOWLY
def test_where_blur_comes_from(digits_from, tmp_path):
    lesson = example("where_blur_comes_from")
    names = ("Normal, scale 1.0", "Normal, scale 0.3", "Normal, scale optimal", "logistic mixture")
    found = lesson.main(tmp_path / "figure.png", epochs=20, likelihoods={n: lesson.LIKELIHOODS[n] for n in names})
    one, third, fits, mixture = (found[name] for name in names)
    # Too large a scale: codes carry less, leave more digits, and the mean is flatter and further from the digit.
    assert one["kl"] < 0.5 < third["kl"] < fits["kl"]
    assert one["alike"] > 500 > third["alike"] > fits["alike"] >= 1
    assert one["mean"] < third["mean"] < fits["mean"]
    assert one["to digit"] > third["to digit"] > fits["to digit"]
    # What comes back is nearer to the average of digits alike than to the digit.
    assert one["to average"] < one["to digit"]
    assert third["to average"] < third["to digit"]
    # Draws show what means hide; the mixture has the best bound.
    assert one["draw"] > 3 > third["draw"] > fits["draw"] > 1
    assert mixture["bits"] < fits["bits"] < third["bits"] < one["bits"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_roughness_is_the_total_variation():
    roughness = example("where_blur_comes_from").roughness
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2.0
    assert roughness(board[None, None]) == 2.0  # all neighbours differ by 1, both ways
    assert roughness(board[None, None] / 2) == 1.0
    assert roughness(torch.ones(1, 1, 8, 8)) == 0.0


def test_ways_start_and_end_at_the_codes():
    lesson, vae = example("through_the_latent_space"), build((1, 8, 8), latent_dim=20, hidden=(16,))
    x, train, t = torch.rand(3, 5, 1, 8, 8), torch.rand(40, 1, 8, 8), torch.linspace(0, 1, 5).unsqueeze(-1)
    ways, others = lesson.ways(x, vae, train, t), vae.codes(train)
    for way in ways.values():
        torch.testing.assert_close(way[:, 0], vae.codes(x[:, 0]))
        torch.testing.assert_close(way[:, -1], vae.codes(x[:, -1]))
    inside = ways["by codes"][:, 1:-1].flatten(0, 1)
    assert (inside.unsqueeze(1) == others).all(-1).any(-1).all()
    for name, path in (("straight", "linear"), ("sphere", "spherical")):
        with torch.no_grad():
            means = vae.decode(ways[name].flatten(0, 1)).mean.view_as(x)
        torch.testing.assert_close(means, vae.interpolate(x[:, 0], x[:, -1], 5, path=path))


@BOTH_SLOWLY
def test_through_the_latent_space(digits_from, tmp_path):
    found = example("through_the_latent_space").main(
        tmp_path / "figure.png", epochs=20, pairs=40, steps=5, num_particles=50
    )
    pixels, straight, sphere, by_codes = (found[name] for name in ("pixels", "straight", "sphere", "by codes"))
    # Two errors apart at the least: the straight way and the mix of pixels are less likely than sphere and test digits.
    for low in (pixels, straight):
        for high in (sphere, by_codes):
            assert low["log p(x)"] + 2 * low["error"] < high["log p(x)"]
    assert sphere["log p(x)"] < found["test digits"]
    # Straight through the middle, where the prior has no mass; and codes jump.
    assert straight["norm of z"] < 0.8 * sphere["norm of z"]
    assert straight["prior within"] < 0.01
    assert by_codes["largest step"] > 2 * max(straight["largest step"], sphere["largest step"])
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@BOTH_SLOWLY
def test_posterior_collapse(digits_from, tmp_path):
    report, results = example("posterior_collapse").main(tmp_path / "figure.png", epochs=30)
    assert report.kind == "posterior"
    assert report.use.active_units == 0
    assert any("scale" in line for line in report.evidence)
    assert report.remedies[0].value == {"class": "Normal", "scale": "optimal"}
    collapsed, warm_up, free_bits, cured = (results[name] for name in results)
    # A warm-up does not help, free bits make codes at a cost, and the scale that fits cures.
    assert collapsed[0] == warm_up[0] == 0
    assert free_bits[0] >= 10
    assert free_bits[2] < collapsed[2]
    assert cured[0] >= 10
    assert cured[2] > collapsed[2] + 50
    assert (tmp_path / "figure.png").stat().st_size > 10_000
