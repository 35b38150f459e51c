"""What train says of the likelihood that the data suggest, and the schema of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pyro_vae.cli.tables import wrapped
from pyro_vae.data import DataSet, Rows
from pyro_vae.resolver import as_mapping, class_name
from pyro_vae.suggestions import MISSING, Suggestion
from pyro_vae.suggestions.library import LOG1P
from pyro_vae.suggestions.rules import LOGARITHM, RECODE, STANDARDISE
from pyro_vae.suggestions.schemas import completed, with_likelihood
from pyro_vae.suggestions.units import in_units
from pyro_vae.suggestions.whole_tables import suggest_table
from pyro_vae.vae.tables import as_rows

__all__ = ["print_suggestion", "with_schema"]


def with_schema(config: dict[str, Any], raw: DataSet[Rows]) -> DataSet[Rows]:
    """Choose the likelihood of a table, and return it with its completed schema."""
    train, everything = raw.train, raw.everything
    assert train.schema is not None, "the rows have one"
    if class_name(config["likelihood"]) == "auto":
        schema, (first, *others) = suggest_table(train, everything)
        print_suggestion(first, others, standardised=True)
    else:
        schema = completed(with_likelihood(train.schema, config["likelihood"]), train, everything)
    if config["standardize"] is False:
        schema = schema.with_columns(replace(c, loc=0.0, scale=1.0) for c in schema.data if not c.is_coded)
    config["likelihood"] = as_mapping("likelihood", in_units(config["likelihood"], schema))
    if config["inputs"] == "auto":
        config["inputs"] = "x"
    return raw.map(lambda rows: replace(as_rows(schema, rows), schema=schema))


def print_suggestion(first: Suggestion, others: Sequence[Suggestion], standardised: bool) -> None:
    """Print a likelihood, the reason, and what would prepare the data for it beyond what train does by itself."""
    print(wrapped(f"likelihood {first.with_steps(())}", indent=11))
    done = {MISSING: "", LOG1P: "", **({STANDARDISE: "", LOGARITHM: "Take the logarithm"} if standardised else {})}
    steps = [step._replace(what=done.get(step.what, step.what)) for step in first.todo]
    left = first.with_steps([step for step in steps if step.what and not step.what.startswith(RECODE)]).prepare
    if left:
        print(f"           better in the file: {left}")
    if others:
        print(f"           also possible: {', '.join(dict.fromkeys(class_name(o.likelihood) for o in others))}")
