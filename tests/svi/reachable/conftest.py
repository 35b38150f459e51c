import pytest

from tests.svi.reachable import things
from tests.svi.reachable.things import Plain


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    """Restore after each test what it sets."""
    monkeypatch.setattr(things, "LEVEL", 1.0)
    for name in ("shared", "unread"):
        monkeypatch.setattr(Plain, name, 1.0)
