"""What every test may rely on."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault, and every run tries the same examples; others: --hypothesis-profile=default.
settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _children_can_be_interrupted() -> None:
    """A shell starts what runs in the background with SIGINT ignored, which children inherit: they would never stop."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
