"""Pages by the keyboard alone."""

import pytest

# What a mouse can use and is there to be seen, without what repeats another link for the eye.
CONTROLS = """() => [...document.querySelectorAll(
    'a[href], button, input, select, summary, textarea, [onclick]')]
  .filter(e => e.checkVisibility({visibilityProperty: true, opacityProperty: false})
    && !e.disabled && !e.closest('[aria-hidden=true], [inert]') && e.type !== 'hidden')
  .map((e, i) => { e.dataset.control = i; return e.outerHTML.slice(0, 100); })"""
AT_A_TIME = 20


def test_keyboard_reaches_everything(browser, pages_of_each_kind, show):
    assert missed(browser, pages_of_each_kind, show) == {}


@pytest.mark.slow
def test_keyboard_reaches_everything_on_every_page(browser, all_pages, show):
    assert missed(browser, all_pages, show) == {}


def missed(browser, names, show):
    """{page: controls that Tab does not reach}."""
    found = {}
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        for name in names:
            show(page, name)
            controls = page.evaluate(CONTROLS)
            # The page notes where the focus goes, so that keys can be pressed many at a time.
            page.evaluate(
                "document.addEventListener('focusin', e => { (window.reached ??= new Set())"
                ".add(e.target.dataset.control); })"
            )
            left = dict(enumerate(controls))
            for _ in range(0, 2 * len(controls) + 40, AT_A_TIME):  # what scrolls takes it too
                for _ in range(AT_A_TIME):
                    page.keyboard.press("Tab")
                reached = page.evaluate("[...(window.reached ?? [])]")
                left = {i: html for i, html in enumerate(controls) if str(i) not in reached}
                if not left:
                    break
            if left:
                found[name] = list(left.values())
    return found


def test_skip_link_leads_to_the_content(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/book/how-to-use.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")
    page.close()
