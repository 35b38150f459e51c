import pyro
import pytest


@pytest.fixture(autouse=True)
def _store():
    yield
    pyro.clear_param_store()
