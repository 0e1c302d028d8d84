"""The Sphinx extension of the site: all directives, and what happens before and after the pages."""

from sphinx.highlighting import PygmentsBridge

from press.site import (
    api,
    directives,
    emoji_search,
    glossary,
    pages,
    policy,
    records,
    scoreboard,
    slim,
    take,
)

DIRECTIVES = {
    "chapter-badges": directives.ChapterBadges,
    "chapter-cards": directives.ChapterCards,
    "field-map": directives.FieldMap,
    "from-repository": pages.FromRepository,
    "play": directives.Play,
    "scoreboard": scoreboard.Scoreboard,
    "superseded": scoreboard.Superseded,
    "techniques": directives.Techniques,
    "theme": directives.Theme,
    "verdict-strip": directives.VerdictStrip,
}
# What is done to the built site, in this order: what comes before `slim_site` becomes light, too,
# and the policies name what all others have written into the pages.
FINISH = (
    records.write_downloads, take.write_files, pages.write_sitemap,
    slim.slim_site, emoji_search.write_files, policy.write_policies,
)  # fmt: skip


def finish(app, exception):
    if not exception and app.builder.format == "html":
        for step in FINISH:
            step(app)


def setup(app):
    PygmentsBridge.html_formatter = slim.QuietFormatter
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    app.connect("config-inited", directives.open_catalogue)
    app.connect("config-inited", pages.set_address)
    app.connect("builder-inited", api.own_documented_members, priority=900)
    app.connect("autodoc-process-docstring", api.plain_docstring)
    app.connect("doctree-read", take.name_cells)
    app.connect("env-get-updated", pages.number_by_page, priority=900)  # after they were counted
    app.connect("doctree-resolved", scoreboard.link_claims)
    app.connect("doctree-resolved", glossary.link_terms)
    app.connect("html-page-context", pages.add_page_facts)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
