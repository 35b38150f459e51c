"""The table that each kind of program adds to."""

from tests.svi.drop_in.harness import Case, table

BREAKING: dict[str, Case] = {}
breaks = table(BREAKING)
