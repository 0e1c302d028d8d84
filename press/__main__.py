"""Command line of the book: ``python -m press COMMAND``."""

import re
import signal
import sys

import click

from labutils import PROFILES, __version__
from labutils.claims import RecordError
from press import PressError, notebooks
from press import book as books

MOST_SEEDS = 1000  # of one range, so that a slip of the hand does not fill the memory


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90})
@click.version_option(__version__, prog_name="press")
def main():
    """Run and build the book. Each command works from any folder inside it."""


def parse_seeds(text):
    """Return the seeds of ``"0-9"`` or ``"0,3,5-7"`` as a list."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part, re.ASCII)
        if not match or not 0 <= int(match[2] or match[1]) - int(match[1]) < MOST_SEEDS:
            raise click.BadParameter(
                f"{text!r:.80} is not a list of seeds such as 0-9 or 0,3,5-7 (below 10**9, at most "
                f"{MOST_SEEDS} in a row)"
            )
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(seeds)) < len(seeds):
        raise click.BadParameter(f"{text!r:.80} names a seed twice")
    return seeds


def run_engine(names, **options):
    from press import engine  # needs more packages than the site has

    try:
        outcomes = engine.execute(names, **options)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(any(outcome.status == "failed" for outcome in outcomes))


def engine_command(name, sweep, text):
    params = [
        click.Argument(["names"], nargs=-1, required=sweep,
                       metavar="NOTEBOOK..." if sweep else "[NOTEBOOK]..."),
        click.Option(["--profile"], type=click.Choice(PROFILES), default="small", show_default=True,
                     help="Seconds, minutes on a laptop, or an hour on a GPU."),
        click.Option(["--seeds"], type=parse_seeds, required=sweep, metavar="LIST",
                     help="0-9, or 0,3,5-7." + " Does what `sweep` does." * (not sweep)),
        click.Option(["--jobs"], type=click.IntRange(min=1), metavar="N",
                     help="Jobs side by side.  [default: one notebook; a seed per core]"),
        click.Option(["--dask"], metavar="ADDRESS",
                     help="Run on the Dask cluster of this scheduler instead."),
        click.Option(["--force"], is_flag=True, help="Run what is fresh or finished, too."),
    ]  # fmt: skip
    main.add_command(click.Command(name, params=params, callback=run_engine, help=text))


engine_command("execute", False, """Execute notebooks (default: all) and store what they give.

One is skipped when it is fresh: nothing that its numbers depend on changed since. Outputs and
results are replaced only when the whole notebook succeeded: profile small in notebooks/ and
results/, full in _build/executed/ and results/, smoke in _build/ only. The partial notebook of a
failed run is kept in _build/executed/.
""")  # fmt: skip

engine_command("sweep", True, """Run notebooks over many seeds; merge the records.

Each seed is a job of its own. Finished jobs are kept: an interrupted sweep, or one with more seeds,
goes on with the rest. Failed jobs are tried once more. The merged record is written to
_build/sweep/PROFILE/NOTEBOOK.json; the book's records and notebooks stay as they are.
""")  # fmt: skip


@main.command()
def status():
    """Show what is fresh or stale, verdicts, times, dates."""
    click.echo(books.status())


@main.command()
@click.option("--archive", is_flag=True, help="Also pack it into a zip file for reading offline.")
def book(archive):
    """Build the site into _build/html from stored outputs. Warnings are errors."""
    books.book(archive=archive)


@main.command()
def pdf():
    """Print the built site into _build/learning-from-less.pdf.

    All pages, with everything open that the site folds away. Needs Playwright, pypdf, Chromium.
    """
    from press.site.pdf import pdf

    pdf(notebooks.book_root().resolve())


@main.command()
@click.argument("names", nargs=-1, metavar="[NOTEBOOK]...")
def technique(names):
    """Write techniques (default: all) as files that run alone.

    They lie in _build/technique then.
    """
    from press import standalone

    folder = notebooks.book_root() / "_build" / standalone.FOLDER
    for path in standalone.write(folder, names=names):
        click.echo(path)


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def data(names):
    """Fetch the real data sets; show where they lie.

    Looks in the cache (LABUTILS_DATA, otherwise the user's cache folder), then in the folders of
    installed system packages, then downloads and checks.
    """
    sys.exit(not books.fetch_data(names))


@main.command("new-lab")
@click.argument("slug")
def new_lab(slug):
    """Write a lab that keeps the contract, to be filled in."""
    from press.new_lab import new_lab

    for path in new_lab(slug):
        click.echo(path)


@main.command("setup-cells")
def setup_cells():
    """Write the tag and address of _config.yml into the notebooks."""
    click.echo(f"rewritten: {', '.join(notebooks.rewrite_setup_cells()) or 'none'}")


def run():
    """Run the command line; expected errors become one line and exit status 2."""
    try:
        main(prog_name="python -m press")
    except (PressError, RecordError, OSError) as error:
        message = error
    except ModuleNotFoundError as error:
        message = (
            f"{error.name} is not installed for {sys.executable}. The environment that "
            "`make test` makes, .venv, has all packages: use .venv/bin/python."
        )
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP"):  # a polite kill or a closed terminal is like Ctrl-C
        kind = getattr(signal, name, None)
        if kind and signal.getsignal(kind) == signal.SIG_DFL:  # nohup ignores the second
            signal.signal(kind, signal.default_int_handler)
    run()
