"""Commands keep compiled programs in a folder of the tests, not in the user's."""

import sys

import pytest

# What says where a user's cache folder is.
HOME = {"win32": "LOCALAPPDATA", "darwin": "HOME"}.get(sys.platform, "XDG_CACHE_HOME")


@pytest.fixture
def user(monkeypatch):
    """A function that makes a folder the user's home."""
    return lambda home: monkeypatch.setenv(HOME, str(home))


@pytest.fixture(autouse=True)
def user_of_all_tests(user, tmp_path_factory):
    user(tmp_path_factory.getbasetemp() / "user")
