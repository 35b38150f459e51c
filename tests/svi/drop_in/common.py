from tests.svi.drop_in.harness import Case, table
COMMON: dict[str, Case] = {}
