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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep on one worker what shares something dear, so that it is there once; a file may say more: ``xdist_group``.

    A group is what stands behind the ``@`` of a name. pytest-xdist 3.8 writes it where pytest 9.2 no longer looks.
    """
    if getattr(config.option, "loadgroup", False):
        for item in items:
            mark = item.get_closest_marker("xdist_group")
            if group := str(mark.args[0]) if mark else _shared(item):
                item._id = type(item.id).parse(f"{item.nodeid.removesuffix('@' + group)}@{group}")


def _shared(item: pytest.Item) -> str:
    """A test's group: its folder, where it loads a model's runtime or uses what the folder has once a session.

    Else its file, where it uses what that has once. Most use nothing of the kind, and go wherever somebody is free.
    """
    if item.get_closest_marker("models"):
        return item.path.parent.name
    used = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    scopes = {definitions[-1].scope for definitions in used if definitions[-1].baseid.startswith("tests/")}
    return item.path.parent.name if "session" in scopes else item.path.stem if "module" in scopes else ""
