"""Command line of the book: ``python -m press COMMAND``."""

import sys

import click

from labutils import PROFILES, __version__
from labutils.claims import RecordError
from press import PressError, notebooks
from press import book as books


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90})
@click.version_option(__version__, prog_name="press")
def main():
    """Run and build the book. Each command works from any folder inside it."""


class Seeds(click.ParamType):
    """Seeds as the command line takes them."""

    name = "seeds"

    def convert(self, value, param, ctx):
        from press import engine

        try:
            return engine.parse_seeds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def engine_command(needed, seeds_help):
    """Make a command of a function without body: both words run the engine, with these options."""

    def decorate(function):
        def run(names, **options):
            from press import engine  # needs more packages than the site has

            try:
                outcomes = engine.execute(names, **options)
            except KeyboardInterrupt:
                sys.exit(130)
            sys.exit(any(outcome.status == "failed" for outcome in outcomes))

        run.__doc__ = function.__doc__
        for option in (
            click.option("--force", is_flag=True, help="Run what is fresh or finished, too."),
            click.option("--dask", metavar="ADDRESS",
                         help="Run on the Dask cluster of this scheduler instead."),
            click.option("--jobs", type=click.IntRange(min=1), metavar="N",
                         help="Jobs side by side here; they share the cores.  [default: one "
                         "notebook; a seed per core]"),
            click.option("--seeds", type=Seeds(), required=needed, metavar="LIST", help=seeds_help),
            click.option("--profile", default="small", show_default=True,
                         metavar="|".join(PROFILES),
                         help="Seconds, minutes on a laptop, or an hour on a GPU."),
            click.argument("names", nargs=-1, required=needed,
                           metavar="NOTEBOOK..." if needed else "[NOTEBOOK]..."),
        ):  # fmt: skip
            run = option(run)
        return main.command(function.__name__)(run)

    return decorate


@engine_command(needed=False, seeds_help="Store nothing in the book: do what `sweep` does.")
def execute():
    """Execute notebooks and store their outputs and results.

    Without NOTEBOOK, all of them. One is skipped when its results are fresh: nothing that its
    numbers depend on changed since.

    Stored notebooks and results are replaced only when the whole notebook succeeded: profile small
    in notebooks/ and results/, full in _build/executed/ and results/, smoke in _build/ only. A
    failed run leaves them as they were and keeps the partial notebook in _build/executed/.

    \b
    python -m press execute                       what changed, at profile small
    python -m press execute rs2 --profile smoke   one notebook, in under a minute
    """


@engine_command(needed=True, seeds_help="0-9, or 0,3,5-7.")
def sweep():
    """Run notebooks over many seeds; merge the records.

    Each seed is a job of its own. Finished jobs are kept: an interrupted sweep, or one with more
    seeds, goes on with the rest. Failed jobs are tried once more. The merged record is written to
    _build/sweep/PROFILE/NOTEBOOK.json; the book's records and notebooks stay as they are.

    \b
    python -m press sweep rs2 --seeds 0-9
    python -m press sweep rs2 --seeds 0-99 --dask tcp://10.0.0.1:8786
    """


@main.command()
def status():
    """Show what is fresh or stale, verdicts, times, dates."""
    click.echo(books.status())


@main.command()
@click.option("--archive", is_flag=True, help="Also pack it into a zip file for reading offline.")
def book(archive):
    """Build the site into _build/html from stored outputs.

    Nothing is executed or downloaded. Warnings are errors.
    """
    books.book(archive=archive)


@main.command()
def pdf():
    """Print the built site into _build/learning-from-less.pdf.

    All pages in the order of the table of contents, with everything open that the site folds
    away. Needs Playwright, pypdf and a Chromium.
    """
    from press.site.pdf import pdf

    pdf(notebooks.book_root().resolve())


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def data(names):
    """Fetch the real data sets and show where they lie.

    Without NAME, all of them. Looks in the cache (LABUTILS_DATA, otherwise the user's cache
    folder), then in the folders of installed system packages, then downloads and checks.
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
    """Write the book's address and tag into the notebooks.

    Run this after the repository's url or branch in _config.yml changed: it rewrites every
    notebook's setup cell.
    """
    changed = notebooks.rewrite_setup_cells()
    click.echo(f"rewritten: {', '.join(changed)}" if changed else "all setup cells are current")


def run():
    """Run the command line; expected errors become one line and exit status 2."""
    try:
        main(prog_name="python -m press")
    except (PressError, RecordError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        print(
            f"Error: {error.name} is not installed for {sys.executable}. The environment that "
            "`make test` makes, .venv, has all packages: use .venv/bin/python.",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    run()
