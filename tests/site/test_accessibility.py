"""Every page by axe-core, in light and in dark."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe

GRAVE = {"serious", "critical"}
# What a change of colours can break; the rest is judged once.
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}


@pytest.fixture(scope="module")
def judged(browser, pages, show):
    """{(page, theme): grave violations in words} of every page."""
    axe, found = Axe(), {}
    with browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    ) as context:
        page = context.new_page()
        for name in pages:
            page.emulate_media(color_scheme="light")
            show(page, name)
            for theme, options in (("light", {}), ("dark", COLOURS)):
                page.emulate_media(color_scheme=theme)
                if page.locator("html[data-theme]").count():  # all but the page that leads on
                    page.locator(f"html[data-theme={theme}]").wait_for(state="attached")
                result = axe.run(page, options={"resultTypes": ["violations"], **options})
                assert result.response["testEngine"]["name"] == "axe-core"
                found[name, theme] = [
                    f"{v['id']}: {node['html'][:120]} {node['target']}"
                    for v in result.response["violations"]
                    if v["impact"] in GRAVE
                    for node in v["nodes"]
                ]
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_grave_violation(judged, pages, theme):
    assert {name for name, _ in judged} == set(pages)
    bad = {name: words for (name, t), words in judged.items() if t == theme and words}
    assert bad == {}, json.dumps(bad, indent=1)


def test_a_violation_would_be_found(browser, address):
    """The check itself works: an image without words, and grey words on grey."""
    page = browser.new_page()
    page.goto(f"{address}/book/notation.html")
    page.evaluate(
        """() => {
             document.querySelector('article').insertAdjacentHTML('beforeend',
               '<img src="../_static/logo.svg"><p style="color:#aaa;background:#bbb">Words</p>');
           }"""
    )
    found = {v["id"] for v in Axe().run(page).response["violations"] if v["impact"] in GRAVE}
    assert {"image-alt", "color-contrast"} <= found
    page.close()
