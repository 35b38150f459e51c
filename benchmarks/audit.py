"""Measure what audits cost, and whether they ever give a false alarm.

    python benchmarks/audit.py                      # the cost, for two networks
    python benchmarks/audit.py --steps 100000       # audits every step of the programs of tests/svi

The first form compares an audit with a step by the graph. Their ratio gives the number of steps between two audits from
which audits take less than 0.5 % of the time. The second form audits every step of each conformance program, in mode
"exact" or, with ``--fast``, in mode "fast" without the compiler. Nothing changes in these programs, so any difference
that an audit reports is a false alarm.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
import time
import warnings
from pathlib import Path

import pyro
import torch
from pyro.infer import Trace_ELBO

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the programs of the tests

from pyro_vae import CompiledSVI, build
from pyro_vae.svi.audit import AuditSchedule
from pyro_vae.svi.comparison import run_both
from tests.svi.programs import CASES, Case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=0, help="audited steps in total; 0 measures the cost")
    parser.add_argument("--fast", action="store_true", help='mode "fast", without the compiler')
    parser.add_argument("--only", default="", help="programs with this in their name")
    options = parser.parse_args()
    if options.steps:
        soak(options.steps, options.fast, options.only)
    else:
        cost()


def cost() -> None:
    """Print the milliseconds of a step and of an audit."""
    print("| network, batch | step, ms | audit, ms | gap from which on audits take 0.5 % |")
    print("| --- | ---: | ---: | ---: |")
    for features, hidden, latent, batch in ((64, 64, 8, 64), (784, 400, 50, 128)):
        pyro.set_rng_seed(0)
        vae = build(features, latent, hidden=(hidden,))
        svi = CompiledSVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
        x = torch.rand(batch, features).bernoulli()
        for _ in range(100):
            svi.step(x)
        step, audit = [], []
        for _ in range(300):
            start = time.perf_counter()
            svi.step(x)
            step.append(time.perf_counter() - start)
        (graph,) = next(iter(svi._graphs.values()))
        for _ in range(100):
            start = time.perf_counter()
            run_both(graph, (x,), {})
            audit.append(time.perf_counter() - start)
        median_step, median_audit = sorted(step)[len(step) // 2], sorted(audit)[len(audit) // 2]
        gap = next(g for g in (2**k for k in range(40)) if g >= 1000 and median_audit < 0.005 * g * median_step)
        print(f"| {features}-{hidden}-{latent}, {batch} | {1e3 * median_step:.3f} | {1e3 * median_audit:.2f} | {gap} |")


def soak(steps: int, fast: bool, only: str) -> None:
    """Audit every step of the programs."""
    AuditSchedule.due = lambda self, number: True  # instead of fewer and fewer
    if fast:
        torch._inductor.compile = lambda module, examples, options: module.forward
        torch.compile = lambda module, **options: module
    cases = [case for name, case in CASES.items() if only in name]
    audited, alarms = 0, []
    for case in cases:
        done, words = run(case, -(-steps // len(cases)), "fast" if fast else "exact")
        audited += done
        if words:
            alarms.append(f"{case.name}: {words}")
        print(f"{audited:7d} audited steps; {case.name}{f': {words}' if words else ''}", flush=True)
    print(f"{audited} audited steps of {len(cases)} programs; {len(alarms)} alarms", *alarms, sep="\n")


def run(case: Case, steps: int, mode: str) -> tuple[int, str]:
    """Return how many steps of a program were audited, and what the audits found."""
    audited = 0
    for seed in itertools.count():  # some diverge, and Pyro raises; they start again
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        program = case.make()
        svi = CompiledSVI(program.model, program.guide, program.optim, program.loss, mode=mode)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                for args, kwargs in itertools.islice(itertools.cycle(program.calls()), steps):
                    loss = svi.step(*args, **kwargs)
                    audited += svi.captures > 0 and svi.refused is None
                    if program.after is not None:
                        program.after(loss)
                    if svi.refused is not None:
                        return audited, svi.refused
                    if audited >= steps:
                        return audited, ""
        except ValueError:
            continue
    return audited, ""


if __name__ == "__main__":
    main()
