"""Directive scoreboard, links from the chapters' tables of claims to it, and the downloads.

The tables can be read without scripts; scoreboard.js lets readers sort and filter them.
"""

import re
from html import escape
from pathlib import Path

from docutils import nodes

from labutils.formats import interval, signed
from press.site import records
from press.site.directives import (
    BookDirective,
    inline,
    section_id,
    spaced,
    stale_badge,
    text_of,
    verdict_badge,
)
from press.site.records import PAGE, PROFILES, day, duration

SIGNS = {"greater": "more than {m}", "less": "less than −{m}", "equivalent": "within ±{m}"}
FILES = {"results.csv": records.as_csv, "results.json": records.as_json}


class Scoreboard(BookDirective):
    """Every run and every claim of every chapter and profile, and the runs that were replaced."""

    def content_nodes(self):
        claims = [
            self.claim_row(chapter, profile, record, claim, first=i == 0)
            for chapter, profile, record in records.all_runs(self.root)
            for i, claim in enumerate(record["claims"])
        ]
        runs = [self.run_row(chapter, profile) for chapter in self.chapters for profile in PROFILES]
        old = [
            self.old_row(chapter, run)
            for chapter in self.chapters
            for run in records.superseded(self.root, chapter["name"])
        ]
        found = [
            section("Claims", "claims"),
            section("Runs", "runs"),
            section("Superseded results", "superseded"),
        ]
        if claims:
            found[0] += nodes.raw("", self.controls(), format="html")
            header = ("Verdict", "Claim", "Paper", "Ours", "Run")
            found[0] += table(header, claims, "claims-table")
        else:
            found[0] += nodes.paragraph("", "Not yet run: there is no record in results/.")
        found[1] += nodes.paragraph(
            "",
            "One line for each chapter and profile. A run is stale when the code that it "
            "ran has changed since; code is the fingerprint of what ran.",
        )
        header = ("Chapter", "Profile", "State", "Verdicts", "Finished", "Cost", "Where", "Code")
        found[1] += table(header, runs, "runs-table")
        found[2] += nodes.paragraph(
            "",
            "When a chapter runs again with other code, its record is replaced and what it said "
            "before is kept here." + ("" if old else " Nothing has been replaced so far."),
        )
        if old:
            header = ("Chapter", "Profile", "Finished", "Verdicts", "What differs now", "Code")
            found[2] += table(header, old, "old-table")
        return found

    def controls(self):
        """Filters; hidden until scoreboard.js has taken them over."""
        chapters = "".join(
            f'<option value="{escape(label(self.chapters, c))}">'
            f"{escape(label(self.chapters, c))}</option>"
            for c in self.chapters
        )
        verdicts = "".join(f"<option>{verdict}</option>" for verdict in records.VERDICTS[:3])
        return (
            '<form id="claims-controls" class="map-controls" role="search" '
            'aria-label="Filter the claims" hidden>'
            '<div><label for="claims-words">Search</label><input type="search" id="claims-words" '
            'name="words" autocomplete="off" spellcheck="false"></div>'
            '<div><label for="claims-chapter">Chapter</label>'
            '<select id="claims-chapter" name="chapter">'
            f'<option value="">all</option>{chapters}</select></div>'
            '<div><label for="claims-verdict">Verdict</label>'
            '<select id="claims-verdict" name="verdict">'
            f'<option value="">all</option>{verdicts}</select></div>'
            '<button type="reset">Show all</button><p role="status"></p></form>'
        )

    def claim_row(self, chapter, profile, record, claim, first):
        anchor = records.claim_id(chapter["name"], profile, claim)
        row = nodes.row("", ids=[anchor], classes=["stale"] if record["stale"] else [])
        verdict = cell(verdict_badge(claim["verdict"], claim["verdict"]))
        if first and profile == next(iter(records.of_chapter(self.root, chapter["name"]))):
            verdict[0].insert(0, nodes.target("", "", ids=[section_id(chapter)]))
        if record["stale"]:
            verdict += nodes.paragraph("", "", stale_badge())
        row += [
            verdict,
            self.statement(chapter, claim, anchor),
            self.paper(claim),
            self.ours(claim),
            self.run_of(profile, record),
        ]
        return row

    def statement(self, chapter, claim, anchor):
        words, _ = self.parse_inline(text_of(claim["statement"]), lineno=self.lineno)
        link = nodes.reference("", "#", refuri=f"#{anchor}", internal=True, classes=["permalink"])
        link["reftitle"] = "Permanent link to this claim"
        entry = cell(inline(label(self.chapters, chapter), "of-chapter"))
        entry += nodes.paragraph("", "", *words, nodes.Text(" "), link, classes=["claim-head"])
        where = nodes.paragraph("", f"Claimed in: {claim['where']}. ", classes=["small"])
        if self.docname(chapter):
            where += self.claims_link(chapter, "In the chapter")
        entry += where
        return entry

    def paper(self, claim):
        if not claim["paper"]:
            return cell(inline("gives no single number", "small"))
        value = claim["paper"]
        number = f"{value['value']:g}".replace("-", "−")
        return cell(
            inline(f"{number} {value.get('unit', '')}", "number"),
            inline(f"({value['source']})", "small"),
        )

    def ours(self, claim):
        first, second = claim["arms"]
        means = {arm: sum(values) / len(values) for arm, values in claim["values"].items()}
        scale = max(map(abs, means.values()))
        mean = {arm: signed(value, scale).removeprefix("+") for arm, value in means.items()}
        unit = f" {claim['unit']}" if claim["unit"] else ""
        margin = f"{claim['margin']:g}"
        asked = SIGNS[claim["direction"]].format(m=margin).replace("−0", "0")
        entry = nodes.entry()
        difference = claim["difference"]
        if difference:
            entry += nodes.paragraph(
                "",
                "",
                nodes.Text("difference "),
                inline(f"{interval(difference)}{unit}", "number"),
                nodes.Text(
                    text_of(f" ({100 * difference['confidence']:g} % interval, n = ")
                    + f"{difference['n']})"
                ),
            )
            entry += nodes.raw("", interval_picture(claim), format="html")
        entry += nodes.paragraph(
            "",
            f"{first} {mean[first]}, {second} {mean[second]}{unit}. Asked for: {asked}{unit}.",
            classes=["small"],
        )
        return entry

    def run_of(self, profile, record):
        environment = record["environment"]
        entry = cell(inline(profile, "number"))
        entry += nodes.paragraph(
            "",
            f"finished {day(record['finished'])}, {environment['device']}, "
            f"torch {environment['torch']}, {'stale' if record['stale'] else 'fresh'}",
            classes=["small"],
        )
        return entry

    def run_row(self, chapter, profile):
        row = nodes.row()
        record = records.of_chapter(self.root, chapter["name"]).get(profile)
        name = nodes.Text(label(self.chapters, chapter))
        docname = self.docname(chapter)
        row += cell(self.page_link(docname, name) if docname else name)
        row += cell(nodes.Text(profile))
        if record is None:
            state = "not yet run" if docname else "in preparation"
            row += [cell(inline(state, "badge-quiet")), *(cell() for _ in range(5))]
            return row
        environment, memory = record["environment"], record.get("peak_memory_mb")
        seeds = len(record["seeds"])
        row += [
            cell(stale_badge() if record["stale"] else inline("fresh", "badge-quiet")),
            cell(*spaced(self.verdict_counts(record))),
            cell(nodes.Text(day(record["finished"]))),
            cell(
                nodes.Text(
                    f"{duration(record['duration_s'])}, "
                    + (f"{memory:,.0f} MB at most, " if memory else "")
                    + f"{seeds} seed{'s' if seeds > 1 else ''}"
                )
            ),
            cell(
                nodes.Text(
                    f"{environment['device']}, Python {environment['python']}, "
                    f"torch {environment['torch']}"
                )
            ),
            cell(nodes.literal("", record["fingerprint"])),
        ]
        return row

    def old_row(self, chapter, run):
        now = records.of_chapter(self.root, chapter["name"]).get(run["profile"])
        now = {claim["id"]: claim for claim in now["claims"]} if now else {}
        before = {claim["id"]: claim for claim in run["claims"]}
        changes = nodes.bullet_list()
        for name, claim in before.items():
            if name not in now:
                changes += item(f"{name}: {claim['verdict']}; no longer claimed")
            elif now[name]["verdict"] != claim["verdict"]:
                changes += item(f"{name}: {claim['verdict']} before, {now[name]['verdict']} now")
        changes += [item(f"{name}: new") for name in now if name not in before]
        moved = [
            abs(claim["difference"]["mean"] - now[name]["difference"]["mean"])
            for name, claim in before.items()
            if name in now and claim["difference"] and now[name]["difference"]
            and claim["unit"] == "points"
        ]  # fmt: skip
        entry = nodes.entry()
        if len(changes):
            entry += changes
        else:
            entry += nodes.paragraph("", "no verdict")
        if moved:
            text = f"largest change of a difference: {max(moved):.2f} points"
            entry += nodes.paragraph("", text, classes=["small"])
        row = nodes.row()
        row += [
            cell(nodes.Text(label(self.chapters, chapter))),
            cell(nodes.Text(run["profile"])),
            cell(nodes.Text(day(run["finished"]))),
            cell(*spaced(self.verdict_counts(run))),
            entry,
            cell(nodes.literal("", run["fingerprint"])),
        ]
        return row


def label(chapters, chapter):
    return f"{chapters.index(chapter) + 1} {chapter['short']}"


def section(title, name):
    return nodes.section("", nodes.title("", title), ids=[name], names=[name])


def item(words):
    return nodes.list_item("", nodes.paragraph("", words))


def cell(*children):
    entry = nodes.entry()
    if children:
        entry += nodes.paragraph("", "", *spaced_once(children))
    return entry


def spaced_once(children):
    if any(isinstance(child, nodes.Text) and not child.strip() for child in children):
        return list(children)
    return spaced(list(children))


def table(header, rows, name):
    """A table of rows, each a nodes.row with as many entries as the header has words."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    head = nodes.row()
    head += [cell(nodes.Text(words)) for words in header]
    group += nodes.thead("", head)
    group += nodes.tbody("", *rows)
    return nodes.table("", group, classes=["records", name])


def interval_picture(claim):
    """The interval of the difference against zero and the margin, as a small inline SVG."""
    low, mean, high = (claim["difference"][key] for key in ("low", "mean", "high"))
    margin = claim["margin"]
    lines = {"greater": [margin], "less": [-margin], "equivalent": [-margin, margin]}
    lines = lines[claim["direction"]]
    ends = [low, high, 0.0, *lines]
    span = (max(ends) - min(ends)) or 1.0
    left = min(ends) - 0.08 * span

    def x(value):
        return f"{(value - left) / (1.16 * span) * 240:.1f}"

    marks = "".join(f'<line class="bound" x1="{x(v)}" x2="{x(v)}" y1="2" y2="22"/>' for v in lines)
    scale = max(map(abs, (low, mean, high)))
    words = [signed(value, scale) for value in (mean, low, high)]
    words = "difference {}, interval from {} to {}".format(*words)
    return (
        f'<svg class="interval" viewBox="0 0 240 24" role="img" aria-label="{words}">'
        f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="2" y2="22"/>{marks}'
        f'<line class="range" x1="{x(low)}" x2="{x(high)}" y1="12" y2="12"/>'
        f'<circle cx="{x(mean)}" cy="12" r="4"/></svg>'
    )


def mark_claims(app, doctree):
    """Give the section that holds a chapter's `claims` cell the anchor `claims`.

    Chapters may name and place that section as they like; the scoreboard still finds it.
    """
    for found in doctree.findall(nodes.container):
        if "tag_claims" in found["classes"]:
            place = found.parent
            while place is not None and not isinstance(place, nodes.section):
                place = place.parent
            place = place if place is not None else found
            if "claims" not in place["ids"]:
                place["ids"].append("claims")
            return


def link_claims(app, doctree, docname):
    """Link the statements in a chapter's table of claims to the scoreboard."""
    folder, _, name = docname.rpartition("/")
    if folder != "notebooks" or PAGE not in app.env.found_docs:
        return
    record = records.of_chapter(Path(app.srcdir), name).get("small")
    if record is None:
        return
    page = app.builder.get_relative_uri(docname, PAGE)
    anchors = {
        escape(claim["statement"], quote=False): records.claim_id(name, "small", claim)
        for claim in record["claims"]
    }
    for found in doctree.findall(nodes.container):
        if "tag_claims" not in found["classes"]:
            continue
        for raw in list(found.findall(nodes.raw)):
            linked = re.sub(
                r"<td>([^<]*)</td>",
                lambda m: (
                    f'<td><a href="{page}#{anchors[m[1]]}">{m[1]}</a></td>'
                    if m[1] in anchors
                    else m[0]
                ),
                raw.astext(),
            )
            if linked != raw.astext():
                raw.replace_self(nodes.raw(linked, linked, **raw.attributes))


def add_script(app, pagename, templatename, context, doctree):
    if pagename == PAGE:
        app.add_js_file("scoreboard.js", loading_method="defer")


def write_downloads(app, exception):
    if not exception and app.builder.format == "html":
        for name, content in FILES.items():
            (Path(app.outdir) / name).write_text(content(Path(app.srcdir)), "utf-8")


def setup(app):
    app.add_directive("scoreboard", Scoreboard)
    app.connect("doctree-read", mark_claims)
    app.connect("doctree-resolved", link_claims)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
