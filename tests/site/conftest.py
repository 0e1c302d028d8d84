"""Builds the site once from a clean copy of the book, serves it, and visits every page."""

import contextlib
import functools
import http.server
import threading
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import filelock
import pytest
import yaml
from building import ROOT, Quiet, build, copy_book

from press.site import pdf

HTTP_ERROR = 400
MOST_LABS = 3  # that ordinary runs look at; tests marked slow look at all


@pytest.fixture(scope="session")
def config():
    return yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))


@pytest.fixture(scope="session")
def book(tmp_path_factory, worker_id):
    """A clean copy of the book whose path holds spaces, with its site; one for all workers."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    book, done = shared / "a book with spaces", shared / "book.built"
    with filelock.FileLock(shared / "book.lock"):
        if not done.exists():
            copy_book(book)
            status, output = build(book, "--archive")
            done.write_text("" if status == 0 else output, "utf-8")
    assert done.read_text("utf-8") == "", done.read_text("utf-8")
    return book


@pytest.fixture(scope="session")
def site(book):
    """The folder of the built site."""
    return book / "_build" / "html"


@pytest.fixture(scope="session")
def address(site):
    """Address of a local server of the site, without a slash at the end."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium. Its absence is an error: these tests must not pass by not running."""
    with pdf.chromium() as browser:
        yield browser


@dataclass
class Visit:
    """What one page showed."""

    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    bytes: dict = field(default_factory=dict)  # by address, as they came over the wire

    @property
    def weight(self):
        return sum(self.bytes.values())


FACTS = """async () => {
  const formulas = [...document.querySelectorAll('.math')];
  const pictures = [...document.querySelectorAll('article figure img')].map(
    e => ({lazy: e.loading === 'lazy', width: e.width, loaded: e.naturalWidth > 0}));
  for (const image of document.images) {
    image.loading = 'eager';
    await image.decode().catch(() => {});
  }
  const all = selector => [...document.querySelectorAll(selector)];
  return {
    title: document.title,
    ids: all('[id]').map(e => e.id),
    links: all('a[href]').map(e => e.href),
    files: all('link[rel=next], link[rel=prev], link[rel~=icon]').map(e => e.href),
    formulas: formulas.length,
    unrendered: formulas.filter(e => !e.querySelector('.katex-html')).map(e => e.textContent),
    errors: all('.katex-error').map(e => e.title),
    images: all('img').map(e => ({src: e.src, alt: e.getAttribute('alt'), width: e.naturalWidth})),
    drawings: all('article svg[role=img]:not([aria-hidden=true])').map(e => e.ariaLabel),
    pictures: pictures,
    shapes: all('article img').filter(
        e => e.clientWidth && getComputedStyle(e).objectFit === 'fill')
      .map(e => [e.src, e.clientWidth / e.clientHeight, e.naturalWidth / e.naturalHeight]),
    cut: all('div.math > .katex-display').filter(e => e.scrollWidth > e.clientWidth + 1)
      .map(e => e.textContent),
    numbers: all('figcaption .caption-number, .eqno, .proof-title .caption-number, ' +
      '.exercise > .admonition-title .caption-number').map(e => e.textContent.trim()),
    tight: all('.cell_output table.dataframe td').filter(e => {
      const look = getComputedStyle(e);
      return parseFloat(look.paddingRight) < 8 || !look.fontVariantNumeric.includes('tabular');
    }).length,
    named: all('.cell_output table.dataframe thead tr:last-child').filter(e =>
      e.previousElementSibling && [...e.cells].slice(1).every(c => !c.textContent.trim()))
      .map(e => e.textContent.trim()),
    meta: Object.fromEntries(all('meta[name=description], meta[property]').map(
      e => [e.name || e.getAttribute('property'), e.content])),
    canonical: document.querySelector('link[rel=canonical]')?.href,
    linked: all('script[type="application/ld+json"]').map(e => JSON.parse(e.textContent)),
    terms: all('article a.term').map(e => ({href: e.getAttribute('href'), title: e.title})),
    misplaced: all('h1 a.term, h2 a.term, pre a.term, code a.term, figcaption a.term, ' +
      'table a.term, aside a.term').map(e => e.outerHTML),
    provenance: document.querySelector('p.provenance')?.innerText ?? '',
    badges: document.querySelector('.chapter-badges')?.innerText ?? '',
  };
}"""


@pytest.fixture(scope="session")
def all_pages(site):
    """Paths of all pages, relative to the site."""
    found = sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html"))
    found = [page for page in found if not page.startswith("_")]
    # Pages that only lead on to others have tests of their own.
    leads_on = 'http-equiv="refresh"'
    found = [page for page in found if leads_on not in (site / page).read_text("utf-8").lower()]
    assert "book/index.html" in found
    assert len(found) > 5
    return found


def kinds():
    """{slug: chapter, lab or reading} of the catalogue."""
    content = yaml.safe_load((ROOT / "book/catalogue.yml").read_text("utf-8"))
    return {
        paper["slug"]: paper["kind"] for theme in content["themes"] for paper in theme["papers"]
    }


@pytest.fixture(scope="session")
def chapters():
    """Slugs of the chapters, the long notebooks."""
    return [slug for slug, kind in kinds().items() if kind == "chapter"]


@pytest.fixture(scope="session")
def labs(all_pages):
    """Pages of the labs, the short notebooks."""
    found = kinds()
    of_notebooks = [page for page in all_pages if page.startswith("notebooks/")]
    return [page for page in of_notebooks if found.get(PurePosixPath(page).stem) == "lab"]


@pytest.fixture(scope="session")
def pages(all_pages, labs):
    """All pages but for some of the labs, which are much alike."""
    return [page for page in all_pages if page not in labs[MOST_LABS:]]


@pytest.fixture(scope="session")
def pages_of_each_kind(pages, chapters, labs):
    """One page of every kind."""
    wanted = ["book/index", "book/scoreboard", "book/field-map", "book/glossary", "book/themes/"]
    wanted = [*wanted, f"/{chapters[0]}.html", *labs[:1], "search", "404"]
    found = [next((page for page in pages if name in page), None) for name in wanted]
    return [page for page in found if page]


@pytest.fixture(scope="session")
def show(address):
    """show(page, name): open a page of the site and wait until it is complete."""

    def show(page, name):
        page.goto(f"{address}/{name}", wait_until="load")

    return show


@contextlib.contextmanager
def weighed(page):
    """Count what a page transfers; yields {address: bytes}, filled while the page loads."""
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    names, found = {}, {}
    wire.on(
        "Network.requestWillBeSent",
        lambda event: names.update({event["requestId"]: event["request"]["url"]}),
    )
    wire.on(
        "Network.loadingFinished",
        lambda event: found.update({names[event["requestId"]]: event["encodedDataLength"]}),
    )
    yield found
    wire.detach()


@pytest.fixture(scope="session")
def visits(browser, address, pages, show):
    """{page: Visit} of the pages."""
    return visit(browser, address, pages, show)


@pytest.fixture(scope="session")
def visits_of_other_labs(browser, address, labs, show):
    """{page: Visit} of the labs that are left out of the pages."""
    if len(labs) <= MOST_LABS:
        pytest.skip("ordinary runs look at all labs")
    return visit(browser, address, labs[MOST_LABS:], show)


def visit(browser, address, pages, show):
    """A Visit for every page, at desktop width, with an empty cache and no other host."""
    found, before = {}, contextlib.ExitStack()
    for name in pages:
        with contextlib.ExitStack() as opened:
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            opened.enter_context(context)
            seen = found[name] = Visit()

            def gate(route, request, visit=seen):
                if request.url.startswith((address, "data:", "blob:")):
                    route.continue_()
                else:
                    visit.foreign.append(request.url)
                    route.abort()

            context.route("**/*", gate)
            page = context.new_page()
            page.on("console", lambda m, v=seen: m.type == "error" and v.console.append(m.text))
            page.on("pageerror", lambda e, v=seen: v.console.append(str(e)))
            page.on(
                "response",
                lambda r, v=seen: r.status >= HTTP_ERROR and v.failed.append(r.url),
            )
            seen.bytes = opened.enter_context(weighed(page))
            show(page, name)
            seen.facts = page.evaluate(FACTS)
            opened.callback(page.wait_for_load_state, "networkidle")
            before.close()  # the page before has come to rest while this one was loading
            before = opened.pop_all()
    before.close()
    return found
