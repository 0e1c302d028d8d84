"""Make a release: ``python -m press.release 1.2.3``, or ``make release VERSION=1.2.3``.

The version is stamped into the package, the citation file, the changelog and the address that
pages and setup cells point to; one commit and one tag hold all of it. Nothing is pushed.
"""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from press import PressError, notebooks
from press.book import status

# File, what stands there once, and what comes in its place.
STAMPS = (
    ("labutils/__init__.py", r'^__version__ = ".*"$', '__version__ = "{version}"'),
    ("_config.yml", r"^  branch: .*$", "  branch: v{version}"),
    (
        "CITATION.cff",
        r"^version: .*(\ndate-released: .*)?$",
        "version: {version}\ndate-released: {date}",
    ),
    ("CHANGELOG.md", r"^## \[Unreleased\]$", "## [Unreleased]\n\n## [{version}] - {date}"),
)


def release(version: str, root: Path | None = None) -> str:
    """Stamp, commit and tag a version; return what to do next. Raises PressError."""
    root = notebooks.book_root(root)
    if problem := next(_problems(version, root), None):
        raise PressError(problem)
    before = _run(root, "git", "rev-parse", "HEAD")
    try:
        stamp(version, root)
        _run(root, "git", "commit", "--quiet", "--all", "--message", f"Release {version}")
        _run(root, "git", "tag", "--annotate", f"v{version}", "--message", f"Version {version}")
    except PressError:
        _run(root, "git", "reset", "--hard", "--quiet", before)
        raise
    return (
        f"Version {version} is committed and tagged v{version} here; nothing is pushed. When "
        f"`make test` is green:\n  git push --atomic origin main v{version}"
    )


def stamp(version: str, root: Path) -> None:
    """Write the version into all files that carry it, and its tag into the setup cells."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    for name, pattern, text in STAMPS:
        before = (root / name).read_text(encoding="utf-8")
        new = text.format(version=version, date=date)
        after, count = re.subn(pattern, lambda _, new=new: new, before, flags=re.MULTILINE)
        if count != 1:
            raise PressError(f"{name} must have one line like {pattern}, found {count}")
        notebooks.write({root / name: after})
    notebooks.rewrite_setup_cells(root)


def _problems(version: str, root: Path):
    """What stands in the way of a release, one sentence each; the cheapest question first."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"expected a version like 1.2.3, got {version!r}: make release VERSION=1.2.3"
    if (branch := _run(root, "git", "branch", "--show-current")) != "main":
        yield f"a release is made on the branch main, this is {branch!r}: git switch main"
    if _run(root, "git", "status", "--porcelain"):
        yield "the working tree has changes; commit or stash them: git status"
    text = (root / "labutils" / "__init__.py").read_text(encoding="utf-8")
    current = re.search(r'^__version__ = "(.*)"$', text, re.MULTILINE)[1]
    older = [int(n) for n in version.split(".")] < [int(n) for n in current.split(".")]
    if older or f"v{version}" in _run(root, "git", "tag").split():
        yield f"version {version} is not newer than {current}; choose a higher one"
    news = (root / "CHANGELOG.md").read_text(encoding="utf-8").partition("## [Unreleased]\n")[2]
    if not news.partition("\n## ")[0].strip():
        yield "CHANGELOG.md says nothing under [Unreleased]; write what changed"
    if stale := _stale(root):
        yield "records are stale; run `make execute` and commit:\n" + "\n".join(stale)


def _stale(root: Path) -> list[str]:
    """The lines of `python -m press status` about records of other code."""
    return [line for line in status(root).splitlines()[2:] if re.search(r"\bstale\b", line)]


def _run(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise PressError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    try:
        print(release(*sys.argv[1:2] or [""]))
    except PressError as error:
        sys.exit(f"No release: {error}")
