"""The book as one PDF file: the built site's pages, printed by Chromium and joined.

Pages stand in the order of the table of contents and are numbered through. Headings make the
outline, links between pages lead inside the file, and what the site folds away is open. Needs
Playwright, pypdf and Chromium 131 or newer (the first that numbers printed sheets).
"""

import contextlib
import json
import os
import shutil
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urldefrag

import yaml
from playwright.sync_api import Error, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, Fit, NameObject
from tqdm.auto import tqdm

from labutils import __version__
from press import PressError
from press.book import PDF, offer
from press.site.templates import environment

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_CHROMIUM = (
    "No Chromium that can be run. Install one: `apt-get install chromium` (Debian), or "
    "`.venv/bin/python -m playwright install --with-deps chromium`, or set CHROMIUM to its path."
)
MARGIN_MM, FOOT_MM, WIDTH_MM = 16, 18, 210  # of A4
# As wide as the text of a sheet, in pixels of CSS; the height does not matter.
VIEWPORT = {"width": round((WIDTH_MM - 2 * MARGIN_MM) * 96 / 25.4), "height": 1000}

TEMPLATES = environment(Path(__file__).resolve().parents[2])
PREPARE = TEMPLATES.get_template("pdf-page.js").render()
FOOT, FRONT = map(TEMPLATES.get_template, ("pdf-foot.css", "pdf-front.html"))


@contextlib.contextmanager
def chromium():
    """A headless Chromium under Playwright. Raises ``PressError`` if there is none."""
    with sync_playwright() as playwright:
        try:
            # A container has neither Chromium's sandbox nor much shared memory.
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        except Error as error:
            raise PressError(f"{NO_CHROMIUM}\n{error}") from None
        yield browser
        browser.close()


def find_chromium():
    """Path of a Chromium: $CHROMIUM, chromium, google-chrome, or None for Playwright's own."""
    if wanted := os.environ.get("CHROMIUM"):
        if not shutil.which(wanted):
            raise PressError(f"CHROMIUM={wanted} is not a program that can be run")
        return shutil.which(wanted)
    return next(filter(None, map(shutil.which, NAMES)), None)


def contents(root):
    """[(caption of the part or None, [page, ...]), ...] of _toc.yml, sections after their page."""

    def pages(entries):
        for entry in entries:
            yield entry["file"]
            yield from pages(entry.get("sections", ()))

    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    parts = [(part["caption"], list(pages(part["chapters"]))) for part in toc["parts"]]
    return [(None, [toc["root"]]), *parts]


def pdf(root):
    """Print the built site of a book into ``_build`` and offer it there; return its path."""
    target = root / "_build" / PDF
    title = yaml.safe_load((root / "_config.yml").read_text("utf-8"))["title"]
    site = root / "_build" / "html"
    with chromium() as browser:
        sheets = write(site, contents(root), target, browser, title, f"Version {__version__}")
    offer(site, target)
    print(f"{sheets} pages, {target.stat().st_size / 1e6:.1f} MB: {target}", flush=True)
    return target


def write(site, parts, target, browser, title, subtitle=""):
    """Print pages of a built site, join them to one file, return the number of sheets.

    ``parts`` is ``[(caption or None, [page, ...]), ...]``, as `contents` returns it. The file
    appears whole or not at all. Raises ``PressError`` naming pages that were not built.
    """
    site, target = Path(site).resolve(), Path(target)
    files = {page: site / f"{page}.html" for _, pages in parts for page in pages}
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise PressError(f"not built: {', '.join(missing)}. Build the site first: `make book`")
    addresses = {file.as_uri(): page for page, file in files.items()}
    printed, headings, first, before = {}, {}, {}, 0
    with browser.new_context(viewport=VIEWPORT, color_scheme="light") as context:
        tab = context.new_page()
        tab.emulate_media(media="print")
        for page, file in tqdm(files.items(), "printing", unit="page", disable=None):
            tab.goto(file.as_uri())
            headings[page] = tab.evaluate(PREPARE)
            name = json.dumps(headings[page][0]["title"], ensure_ascii=False)
            tab.add_style_tag(content=FOOT.render(before=before, title=name))
            printed[page], first[page] = sheets(tab), before
            before += len(printed[page].pages)
        tab.set_content(
            FRONT.render(
                title=title, subtitle=subtitle, parts=parts, files=files, headings=headings,
                first=first,
            )
        )  # fmt: skip
        cover = sheets(tab)
    writer = join(cover, printed, addresses, parts, headings)
    writer.add_metadata({"/Title": title})
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".tmp")
    writer.write(scratch)
    scratch.replace(target)
    return len(writer.pages)


def sheets(tab):
    """What a browser's tab shows, printed; a pypdf reader."""
    side = f"{MARGIN_MM}mm"
    margin = {"top": side, "bottom": f"{FOOT_MM}mm", "left": side, "right": side}
    return PdfReader(BytesIO(tab.pdf(format="A4", print_background=True, margin=margin)))


def join(cover, printed, addresses, parts, headings):
    """A pypdf writer of all sheets, with an outline and links that lead inside the file.

    ``cover`` and the values of ``printed``, {page: ...}, are readers. A link to a file of the site
    that is not in the book is no link any more.
    """
    writer, start, places = PdfWriter(), {}, {}
    for page, reader in {None: cover, **printed}.items():
        start[page] = len(writer.pages)
        for sheet in reader.pages:
            writer.add_page(sheet)
        for name, place in reader.named_destinations.items():
            number = start[page] + reader.get_destination_page_number(place)
            places[page, unquote(name.removeprefix("/"))] = number, float(place.top)
    top = float(writer.pages[0].mediabox.top)

    def place(page, anchor):
        number, height = places.get((page, anchor), (start[page], top))
        return number, Fit.xyz(0, height)

    for page, reader in {None: cover, **printed}.items():
        for sheet in writer.pages[start[page] : start[page] + len(reader.pages)]:
            kept = ArrayObject()
            for reference in sheet.get("/Annots", ()):
                link = reference.get_object()
                address = str(link.get("/A", {}).get("/URI", ""))
                if goal := goal_of(link, address, page, addresses):
                    number, fit = place(*goal)
                    link.pop("/A", None)
                    goal = [writer.pages[number].indirect_reference, fit.fit_type, *fit.fit_args]
                    link[NameObject("/Dest")] = ArrayObject(goal)
                if goal or not address.startswith("file:"):
                    kept.append(reference)
            sheet[NameObject("/Annots")] = kept

    add_outline(writer, parts, headings, place)
    writer.set_page_label(0, start[parts[0][1][0]] - 1, style="/r")
    writer.set_page_label(start[parts[0][1][0]], len(writer.pages) - 1, style="/D")
    return writer


def goal_of(link, address, page, addresses):
    """(page, anchor) that a link on a page leads to; None outside the book."""
    if "/Dest" in link:
        return page, unquote(str(link["/Dest"]).removeprefix("/"))
    target, anchor = urldefrag(address)
    return (addresses[target], unquote(anchor)) if target in addresses else None


def add_outline(writer, parts, headings, place):
    """Headings below the captions of their parts; place(page, anchor) is (sheet, where on it)."""
    for caption, pages in parts:
        number, _ = place(pages[0], "")
        parent = writer.add_outline_item(caption, number, is_open=True) if caption else None
        for page in pages:
            above = {0: parent}  # the last item of each level
            for heading in headings[page]:
                level = heading["level"]
                number, fit = place(page, heading["anchor"] if level > 1 else "")
                higher = above[max(k for k in above if k < level)]
                item = writer.add_outline_item(
                    heading["title"], number, parent=higher, fit=fit, is_open=False
                )
                above = {k: v for k, v in above.items() if k < level} | {level: item}
    writer.page_mode = "/UseOutlines"
