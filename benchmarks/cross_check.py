"""Compare elbo(recon, kl) with Pyro's losses under the same noise, for every combination that the tests know.

    python benchmarks/cross_check.py

Takes every prior with every posterior that goes with it, and every likelihood, in tiny sizes, in float64 and in
float32. The table has the largest difference, relative to the loss, from Trace_ELBO (TraceEnum_ELBO for discrete
codes), from TraceMeanField_ELBO if the KL has a closed form, and from RenyiELBO. Writes benchmarks/cross_check.md.
"""

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the table of combinations is the tests'

from pyro_vae.checks import check  # noqa: E402
from tests.combinations.parts import (  # noqa: E402
    COMBINATIONS,
    LIKELIHOODS,
    make_context,
    make_likelihood_vae,
    make_vae,
    make_x,
)

COLUMNS = ("trace-elbo", "enum-elbo", "mean-field-elbo", "renyi-elbo")
DTYPES = {torch.float64: 1e-9, torch.float32: 1e-5}


def differences(case: tuple[str, str] | str, dtype: torch.dtype) -> list[float | None]:
    """A difference for each column, None where there is nothing to compare."""
    if isinstance(case, str):
        vae, x = make_likelihood_vae(case)
        context = ()
    else:
        vae, x, context = make_vae(*case), make_x(8), make_context(case[0], 8)
    context = tuple(c.to(dtype) for c in context)
    report = check(vae.to(dtype), x.to(dtype), *context, only=COLUMNS, float64=False)
    failed = [line for line in report if line.verdict == "failed"]
    if failed:
        raise RuntimeError(f"{case} in {dtype}: {failed[0].name} failed: {failed[0].finding.detail}")
    return [report[name].finding.difference for name in COLUMNS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "cross_check.md")
    options = parser.parse_args()

    cases = [*COMBINATIONS, *LIKELIHOODS]
    found = {dtype: [differences(case, dtype) for case in cases] for dtype in DTYPES}
    lines = ["# elbo(recon, kl) beside Pyro's losses, same noise", "", "`python benchmarks/cross_check.py`", ""]
    what = f"{len(COMBINATIONS)} combinations of prior and posterior, {len(LIKELIHOODS)} likelihoods and their options."
    lines += [what, ""]
    header = ["prior, posterior; or likelihood"]
    header += [f"{name}, {str(dtype).removeprefix('torch.')}" for dtype in DTYPES for name in COLUMNS]
    lines += [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    for i, case in enumerate(cases):
        values = [value for dtype in DTYPES for value in found[dtype][i]]
        shown = ["" if value is None else f"{value:.0e}" if value else "0" for value in values]
        lines.append(f"| {case if isinstance(case, str) else ', '.join(case)} | {' | '.join(shown)} |")
    largest = {
        dtype: [max(v for row in rows if (v := row[i]) is not None) for i in range(len(COLUMNS))]
        for dtype, rows in found.items()
    }
    shown = [f"**{value:.0e}**" if value else "**0**" for dtype in DTYPES for value in largest[dtype]]
    lines.append(f"| **largest** | {' | '.join(shown)} |")
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for dtype, allowed in DTYPES.items():
        print(f"{str(dtype).removeprefix('torch.')}: at most {max(largest[dtype]):.1e}, allowed {allowed:.0e}")
    print(f"{len(cases)} cases written to {options.out}")


if __name__ == "__main__":
    main()
