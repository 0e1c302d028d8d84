"""Makes the built site light, after Sphinx has written it. Nothing of what a page shows is lost.

Figures: numbers get two decimals, pictures inside of drawings fewer bytes, and a style lets black
and white change places in dark mode. Styles: rules for classes that occur nowhere are left out.
Icons: fonts keep the few that are used, no script draws them again. Pages: images load when they
come near; only the search page loads the index; code carries no marks that no style shows.
"""

import base64
import io
import re
from pathlib import Path

import tinycss2
from fontTools import subset
from fontTools.ttLib import TTFont
from PIL import Image
from pygments.formatters import HtmlFormatter
from pygments.token import Name, Punctuation, Text, Token, Whitespace

ICON_FONTS = "vendor/fontawesome/webfonts"
LONG = 300  # characters of a path

DARK = Path(__file__).parents[2] / "book/_templates/figure-dark.css"


# --- figures -------------------------------------------------------------------------------------


def slim_figures(folder):
    for file in folder.glob("*.svg"):
        text = file.read_text("utf-8")
        if "prefers-color-scheme" not in text and "<metadata>" in text:  # Matplotlib's, not done
            file.write_text(slim(text), "utf-8")


def slim(svg):
    """A drawing by Matplotlib with fewer bytes and a dark mode."""
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", svg,
                 flags=re.DOTALL)  # fmt: skip
    svg = re.sub(r"\s+", " ", re.sub(r">\s+<", "><", svg)).replace(" />", "/>").strip()
    svg = re.sub(r'(?<= )(?:d|x|y|points)="[^"]*"', shorter_numbers, svg)
    svg = re.sub(r"translate\([^)]*\)", shorter_numbers, svg)
    svg = re.sub(r"data:image/png;base64,([\w+/=\s]+)", smaller_picture, svg)
    style = f"<style>{' '.join(DARK.read_text('utf-8').split())}</style>"
    return re.sub(r"(<svg[^>]*>)", rf"\1{style}", svg, count=1)


def shorter_numbers(match):
    """Numbers with two decimals; one in long lines and bands, which are no symbols."""
    digits = 1 if len(match[0]) > LONG else 2
    text = re.sub(
        r"-?\d+\.\d+", lambda n: f"{float(n[0]):.{digits}f}".rstrip("0").rstrip("."), match[0]
    )
    if text.startswith("d="):  # a path needs no blanks around its letters and signs
        text = re.sub(r"(?<=[A-Za-z]) | (?=[A-Za-z-])", "", text)
    return text


def smaller_picture(match):
    """Nearly the same picture in fewer bytes and colours."""
    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(match[1]))) as picture:
        picture = picture.convert("RGBA")
        mode = "RGBA" if picture.getextrema()[3][0] < 255 else "RGB"  # the better palettes
        fewer = picture.convert(mode).quantize(64, dither=Image.Dither.NONE)
        fewer.convert(mode).save(stream, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


# --- pages ---------------------------------------------------------------------------------------

DRAWN_ICONS = re.compile(r'\s*<script defer src="[^"]*scripts/fontawesome\.js[^"]*"></script>')
SEARCH = re.compile(
    r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>'
)
# A list whose items are not of the role listitem; the items' own role is out of date as well.
LIST_ROLES = re.compile(r' role="(?:list(?=" class="citation-list)|doc-biblioentry)"')
# pandas gives the name of the rows a header row of its own; it fits into the first cell above.
ROW_NAME = re.compile(
    r"(<tr[^>]*>\s*<th)>[^<]*</th>((?:(?!</tr>).)*</tr>)\s*"
    r"<tr>\s*<th>([^<]+)</th>(?:\s*<th></th>)+\s*</tr>(?=\s*</thead>)", re.DOTALL
)  # fmt: skip
PICTURE = re.compile(r'<img (?![^>]*loading=)([^>]*src="([^"]*_images/[^"]*)"[^>]*?)\s*/?>')
# pandas repeats its style and indents every cell.
TABLE = re.compile(r"<style scoped>[^<]*</style>\s*(<table.*?</table>)", re.DOTALL)


def slim_pages(folder):
    """Returns the text of all pages."""
    texts = []
    for file in sorted(folder.rglob("*.html")):
        old = text = file.read_text("utf-8")
        text = LIST_ROLES.sub("", DRAWN_ICONS.sub("", text))
        if file != folder / "search.html":
            text = SEARCH.sub("", text)
        head, article, rest = text.partition("<article")
        text = re.sub(r"\n\s+", "\n", head) + article + rest
        text = TABLE.sub(lambda match: re.sub(r">\s+<", "><", match[1]), text)
        text = ROW_NAME.sub(r'\1 class="row-name">\3</th>\2', text)
        text = PICTURE.sub(lambda m, page=file: lazy(m, page), text)
        if text != old:
            file.write_text(text, "utf-8")
        texts.append(text)
    return texts


def lazy(match, page):
    """An image that loads when it comes near, with its size, so that nothing jumps."""
    attributes, size = match[1], ""
    if " width=" not in f" {attributes}" and (found := size_of(page.parent / match[2])):
        size = ' width="{}" height="{}"'.format(*found)
    return f'<img loading="lazy" decoding="async"{size} {attributes}/>'


def size_of(file):
    """Width and height of a picture in CSS pixels, or None."""
    if not file.is_file():
        return None
    if file.suffix != ".svg":
        with Image.open(file) as picture:
            return picture.size
    with file.open(encoding="utf-8") as stream:
        found = re.search(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', stream.read(2000))
    return tuple(round(float(points) * 4 / 3) for points in found.groups()) if found else None


class QuietFormatter(HtmlFormatter):
    """HTML without marks around names, punctuation and blanks, which no style of ours colours."""

    PLAIN = (Name, Punctuation, Text, Whitespace, Token)

    def _get_css_classes(self, ttype):
        return "" if ttype in self.PLAIN else super()._get_css_classes(ttype)


# --- styles and icons ----------------------------------------------------------------------------

LINE_END = re.compile(r"\s*\n\s*")
CLASS = re.compile(r"\.((?:[\w-]|\\.)+)")
HIDDEN = re.compile(r":(?:not|is|where)\((?:[^()]|\([^()]*\))*\)")  # need not be there to match


def slim_styles(file, words):
    """Leave out of a style sheet the rules for classes that no page and no script has."""
    rules = tinycss2.parse_stylesheet(file.read_text("utf-8"), skip_comments=True)
    file.write_text("".join(kept(rules, words)), "utf-8")


def kept(rules, words):
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = tinycss2.serialize(rule.prelude).split(",")
            if "(" not in "".join(selectors):
                selectors = [s for s in selectors if wanted(s, words)]
            elif not wanted(",".join(selectors), words, every=False):
                selectors = []
            if selectors:
                content = LINE_END.sub(" ", tinycss2.serialize(rule.content))
                yield f"{LINE_END.sub(' ', ','.join(selectors))}{{{content}}}"
        elif rule.type == "at-rule" and rule.lower_at_keyword == "media":
            inside = "".join(kept(tinycss2.parse_rule_list(rule.content, True, True), words))
            if inside:
                yield f"@media{tinycss2.serialize(rule.prelude)}{{{inside}}}"
        elif rule.type != "whitespace":
            yield rule.serialize()


def wanted(selector, words, every=True):
    """Whether a selector can match: all of its classes occur (of a list: any of them)."""
    names = [name.replace("\\", "") for name in CLASS.findall(HIDDEN.sub("", selector))]
    return (all if every else any)(name in words for name in names) or not names


def slim_icons(file, styles):
    """Keep those signs of a font that stand in styles, as themselves or by their numbers."""
    codes = {ord(sign) for sign in set(styles) if "\ue000" <= sign <= "\uf8ff"}
    codes |= {int(code, 16) for code in re.findall(r'content:\s*"\\([0-9a-f]+)"', styles)}
    font = TTFont(file)
    options = subset.Options(flavor="woff2", layout_features=[], notdef_outline=True)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=codes)
    subsetter.subset(font)
    font.flavor = "woff2"
    font.save(file)


# --- all of it -----------------------------------------------------------------------------------


def slim_site(app):
    folder = Path(app.outdir)
    slim_figures(folder / "_images")
    texts = slim_pages(folder)
    static = folder / "_static"
    # Bootstrap's script names all that it could show; of that, the theme uses what it puts into
    # the pages, and these.
    texts.append("show fade tooltip tooltip-inner tooltip-arrow bs-tooltip-auto")
    others = ("fontawesome.js", "bootstrap.js")
    scripts = [file for file in static.rglob("*.js") if file.name not in others]
    texts += [file.read_text("utf-8", "replace") for file in scripts]
    words = {word for text in texts for word in re.findall(r"[\w-]+", text)}
    sheets = [*static.glob("*.css"), *static.glob("styles/*.css")]  # those of Sphinx and the themes
    for sheet in sheets:
        slim_styles(sheet, words)
    styles = "".join(sheet.read_text("utf-8") for sheet in sheets)
    for font in (static / ICON_FONTS).glob("*.woff2"):
        slim_icons(font, styles)
    for pattern in ("*.map", "fa-*.ttf", "fontawesome.js*"):
        for unused in static.rglob(pattern):
            unused.unlink(missing_ok=True)
