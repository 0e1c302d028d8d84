"""Command line of the book: ``python -m press COMMAND``."""

import sys

import click

from labutils import PROFILES, __version__
from press import engine, notebooks
from press import sweep as sweeps


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90})
@click.version_option(__version__, prog_name="labutils")
def main():
    """Run and build the book. Each command works from any folder inside it."""


@main.command()
@click.argument("chapters", nargs=-1, metavar="[CHAPTER]...")
@click.option(
    "--profile", default="small", show_default=True, metavar="|".join(PROFILES),
    help="Size of the experiments: seconds, minutes on a laptop, or an hour on a GPU.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N",
    help="Chapters side by side; they share the cores.  [default: what cores and memory allow]",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Execute fresh chapters too.")
@click.option(
    "--junit", type=click.Path(dir_okay=False), metavar="FILE",
    help="Write a JUnit report, one test case per chapter.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="End a chapter that takes longer; it counts as failed.  [default: no limit]",
)  # fmt: skip
def execute(chapters, profile, jobs, force, junit, timeout):
    """Execute chapters and store their outputs and results.

    Without CHAPTER, all chapters. A chapter is skipped when its results are fresh: neither its code
    cells nor the modules of labutils that they use changed since.

    Stored notebooks and results are replaced only when the whole chapter succeeded: profile small
    in notebooks/ and results/, full in _build/executed/ and results/, smoke in _build/ only. A
    failed run leaves them as they were and keeps the partial notebook in _build/executed/.

    \b
    python -m press execute                           what changed, at profile small
    python -m press execute rs2 --profile smoke    one chapter, in under a minute
    """
    try:
        outcomes = engine.execute(
            chapters, profile, jobs=jobs, force=force, junit=junit, timeout=timeout
        )
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(any(outcome.status == "failed" for outcome in outcomes))


class Seeds(click.ParamType):
    """Seeds as the command line takes them."""

    name = "seeds"

    def convert(self, value, param, ctx):
        try:
            return sweeps.parse_seeds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@main.command()
@click.argument("chapter")
@click.option("--seeds", type=Seeds(), required=True, metavar="LIST", help="0-9, or 0,3,5-7.")
@click.option(
    "--profile", default="small", show_default=True, metavar="|".join(PROFILES),
    help="Size of the experiments.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N",
    help="Processes here, one thread each.  [default: what cores and memory allow]",
)  # fmt: skip
@click.option(
    "--dask", metavar="ADDRESS", help="Run on the Dask cluster of this scheduler instead."
)
@click.option("--force", is_flag=True, help="Run finished seeds again.")
def sweep(chapter, seeds, profile, workers, dask, force):
    """Run one chapter over many seeds; merge the records.

    Each seed is a job of its own. Finished jobs are kept: an interrupted sweep, or one with more
    seeds, goes on with the rest. Failed jobs are tried once more. The merged record is written to
    _build/sweep/PROFILE/CHAPTER.json; the book's records and notebooks stay as they are.

    \b
    python -m press sweep rs2 --seeds 0-9
    python -m press sweep rs2 --seeds 0-99 --dask tcp://10.0.0.1:8786
    """
    try:
        outcomes = sweeps.sweep(chapter, seeds, profile, workers=workers, dask=dask, force=force)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(any(outcome.status == "failed" for outcome in outcomes))


@main.command()
@click.option("--archive", is_flag=True, help="Also pack it into a zip file for reading offline.")
def book(archive):
    """Build the site into _build/html from stored outputs.

    Nothing is executed or downloaded. Warnings are errors.
    """
    engine.book(archive=archive)


@main.command("pdf")
def print_pdf():
    """Print the built site into _build/learning-from-less.pdf.

    All pages in the order of the table of contents, with everything open that the site folds
    away. Needs Playwright, pypdf and a Chromium.
    """
    from press.site import pdf

    pdf.pdf(notebooks.book_root().resolve())


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def data(names):
    """Fetch the real data sets and show where they lie.

    Without NAME, all of them. Looks in the cache (LABUTILS_DATA, otherwise the user's cache
    folder), then in the folders of installed system packages, then downloads and checks.
    """
    sys.exit(not engine.fetch_data(names))


@main.command()
def status():
    """Show what is fresh, verdicts, times, dates."""
    click.echo(engine.status())


@main.command("setup-cells")
def setup_cells():
    """Write the book's address and tag into the chapters.

    Run this after the repository's url or branch in _config.yml changed: it rewrites every
    chapter's setup cell.
    """
    changed = notebooks.rewrite_setup_cells()
    click.echo(f"rewritten: {', '.join(changed)}" if changed else "all setup cells are current")


def run():
    """Run the command line; expected errors become one line and exit status 2."""
    try:
        main(prog_name="python -m press")
    except (engine.PipelineError, notebooks.NotebookError) as error:
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
