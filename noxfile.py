"""The project's tasks: ``nox -l`` lists them, ``nox -s quick`` runs one, in an environment of its own."""

import nox

nox.options.sessions = ["lint", "types", "quick"]
nox.options.reuse_existing_virtualenvs = True


@nox.session
def lint(session: nox.Session) -> None:
    """Formats, and says what ruff finds."""
    session.install("-e", ".", "--group", "lint")
    session.run("ruff", "format", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Checks types with pyright."""
    session.install("-e", ".", "--group", "lint")
    session.run("pyright")


@nox.session
def smoke(session: nox.Session) -> None:
    """A few tests of every room: a minute."""
    session.install("-e", ".", "--group", "test")
    session.run("pytest", "-m", "smoke", *session.posargs)


@nox.session
def quick(session: nox.Session) -> None:
    """All tests but those that compile much: some minutes."""
    session.install("-e", ".", "--group", "test")
    session.run("pytest", "-m", "not slow", *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """All tests."""
    session.install("-e", ".", "--group", "test")
    session.run("pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation, strictly, into ``site/``."""
    session.install("-e", ".", "--group", "docs")
    session.run("mkdocs", "build", "--strict")


@nox.session
def figures(session: nox.Session) -> None:
    """Draws the pictures of the documentation again."""
    session.install("-e", ".[data]", "--group", "docs")
    session.run("python", "tools/make_pictures.py", *session.posargs)
