"""The site: built without a warning, whole, and used in a real browser as a reader uses it."""

from __future__ import annotations

import functools
import http.server
import inspect
import itertools
import re
import shutil
import subprocess
import sys
import threading
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from axe_core_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

from normspec.cli import reference
from suite import CLASSES, DIALECTS, ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
STORCH = "generated/docs/storch/nn.BatchNorm1d.html"
SHOWN = {  # the pages that are looked at, in every light
    "home": "docs/index.html",
    "guide": "docs/getting-started.html",
    "class": STORCH,
    "dialect": "generated/docs/storch/index.html",
    "spellings": "generated/docs/spellings.html",
    "statistics": "generated/docs/statistics.html",
    "conformance": "docs/conformance.html",
    "numerics": "docs/numerics.html",
    "performance": "docs/performance.html",
    "tensor": "docs/api/tensor.html",
    "function": "generated/docs/torch/nn.functional.batch_norm.html",
}
SCREENSHOTS = ROOT / "out" / "screenshots"


def sphinx(source, output, *arguments):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", f"{output}.doctrees", *arguments]
    return subprocess.run([*command, str(source), str(output)], capture_output=True, text=True)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    output = tmp_path_factory.mktemp("site") / "html"
    done = sphinx(ROOT, output, "-c", str(ROOT / "docs"))
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def pages(site):
    return {
        path.relative_to(site).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(site.rglob("*.html"))
    }


def path_of(name):
    dialect, _, rest = name.partition(".")
    return f"generated/docs/{dialect}/{rest}.html"


def plain(text):
    return " ".join(text.replace("``", "").split())


# What the pages hold


def test_every_link_leads_somewhere(pages, site):
    ids = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in pages.items()}
    for name, page in pages.items():
        for tag in page.find_all(["a", "link", "script", "img", "use"]):
            target = tag.get("href") or tag.get("src")
            if target is None or urlsplit(target).scheme in ("http", "https", "mailto", "data"):
                continue
            path, fragment = urldefrag(urljoin(f"/{name}", target))
            path = unquote(path).lstrip("/").partition("?")[0]
            assert (site / path).is_file(), f"{name} links to {target}"
            if fragment and path in ids:
                assert unquote(fragment) in ids[path], f"{name} links to {target}"


def test_nothing_is_asked_for_from_outside(pages, site):
    for name, page in pages.items():
        for tag in page.find_all(["script", "img", "iframe", "link"]):
            target = tag.get("src") or tag.get("href") or ""
            assert not urlsplit(target).netloc, f"{name}: {tag}"
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_headings_tables_and_pictures_can_be_heard(pages):
    for name, page in pages.items():
        if name in ("index.html", "search.html"):
            continue  # the one leads on, the other is filled when it is used
        assert page.html["lang"] == "en"
        article = page.find("article")
        levels = [int(tag.name[1]) for tag in article.find_all(re.compile("^h[1-6]$"))]
        assert levels.count(1) == 1, name
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), f"{name}: {levels}"
        for table in article.find_all("table"):
            heads = table.find("thead").find_all("th")
            assert all(head.get_text(strip=True) for head in heads), f"{name}: a column without a heading"
        for image in article.find_all("img"):
            assert image.get("alt"), f"{name}: {image}"
        for drawing in article.find_all("svg"):
            assert drawing["role"] == "img", name
            assert "extend" in drawing["aria-label"], name


@pytest.mark.parametrize("name", CLASSES)
def test_docstring_command_and_page_say_the_same(name, pages):
    """Every fact of the model is in each of them, in the same words."""
    dialect, one = CLASSES[name]
    cls = reference.members(dialect.name)[name]
    texts = {
        "docstring": plain(inspect.getdoc(cls)),
        "show": plain(reference.of_member(dialect.name, name.partition(".")[2])),
        "page": plain(pages[path_of(name)].find("article").get_text()),
    }
    facts = [one.summary, one.equation, one.shapes, one.origin, *one.paragraphs, *one.notes, *one.omits.values()]
    facts += [one.source or "", one.shape or "", one.extension or ""]
    facts += [text for each in one.deviations for text in (each.about, each.original, each.here)]
    for argument in one.arguments:
        facts += [argument.doc, argument.name, argument.twin or "", argument.default or "", one.constraint(argument)]
    for kept in one.state:
        facts += [kept.doc, kept.name, kept.dtype_doc, kept.init, kept.none_when]
    for condition in one.raises:
        facts += [condition.doc, str(condition.raises)]
    facts += [line.removeprefix(">>> ") for each in one.examples for line in each.code.splitlines() if ">>>" in line]
    for where, text in texts.items():
        for fact in facts:
            assert plain(fact) in text, f"{where} does not say: {fact}"
    for condition in one.conditions:  # messages are on the page alone
        assert plain(condition.text or condition.never) in texts["page"]


@pytest.mark.parametrize("name", CLASSES)
def test_a_page_has_everything_that_a_reader_looks_for(name, pages):
    dialect, one = CLASSES[name]
    article = pages[path_of(name)].find("article")
    order = [heading.get_text().rstrip("¶#") for heading in article.find_all("h2")]
    wanted = ["Supertypes", "Parameters", "Shape", "Attributes", "State dict", "Methods", "See also"]
    assert [heading for heading in order if heading in wanted] == wanted
    assert ("Raises" in order) == bool(one.conditions)
    assert ("Examples" in order) == bool(one.examples)
    assert any(heading.startswith("Differences from torch") for heading in order) == (
        dialect.name != "torch" and one.operator == "batch_norm"
    )
    first = [row.find("th").get_text().split(",")[0].strip() for row in rows_of(article, "parameters")]
    assert first == [argument.name for argument in one.arguments]
    assert [row.find("th").get_text().strip() for row in rows_of(article, "state-dict")] == [
        kept.name for kept in one.state
    ]
    methods = " ".join(row.find("th").get_text() for row in rows_of(article, "methods"))
    for method in dialect.methods:
        assert method.name in methods
    switch = {link.get_text() for link in article.select("nav.switch a, nav.switch strong")}
    assert switch == ({each.name for each in DIALECTS} if one.operator == "batch_norm" else {dialect.name})
    drawn = article.find("svg").get_text()
    assert all(supertype in drawn for supertype in one.supertypes)


def heads(article, section):
    return [head.get_text() for head in article.find(id=section).find("thead").find_all("th")]


INDEX, TRAIT, FUNCTION = (
    f"generated/docs/{path}.html" for path in ("storch/index", "nvtripy/Module", "torch/nn.functional.batch_norm")
)
ANATOMY = {  # an item of docs/anatomy.md: the page that is looked at, and what must be true of its article
    "index: members list": (INDEX, lambda page: len(rows_of(page, "members-list")) == 3),
    "index: grouped members": (
        INDEX,
        lambda page: (
            [each.get_text().rstrip("¶#") for each in page.find(id="members-list").find_all("h3")]
            == ["Classes", "Traits and base class", "Functions", "Methods of every module", "Element types"]
        ),
    ),
    "index: filter": (INDEX, None),  # test_members_are_filtered
    "kind and name": (STORCH, lambda page: page.find("h1").find_next("p").get_text().startswith("class · ")),
    "qualified name": (STORCH, lambda page: page.find("code", string="normspec.storch.nn.BatchNorm1d")),
    "signature with defaults": (STORCH, lambda page: "eps: float = 1e-05" in page.find("pre").get_text()),
    "source link": (TRAIT, lambda page: len(page.find_all("a", string="source")) == 1 + len(page.find_all("h3"))),
    "supertypes": (STORCH, lambda page: "Supertypes: HasParams" in plain(page.find(id="supertypes").get_text())),
    "known subtypes": (
        TRAIT,
        lambda page: "Known subtypes: BatchNorm, Linear." in page.find(id="supertypes-and-subtypes").get_text(),
    ),
    "graph of both": (STORCH, lambda page: page.find("svg")["role"] == "img"),
    "summary and prose": (STORCH, lambda page: "Applies Batch Normalization over a 2D or 3D input." in page.get_text()),
    "formula": (FUNCTION, lambda page: page.select_one(".formula math mfrac")),
    "parameters": (STORCH, lambda page: heads(page, "parameters")[1:] == ["type", "default", "must be", "meaning"]),
    "shapes": (STORCH, lambda page: "(N, C, L)" in page.find(id="shape").get_text()),
    "attributes": (
        STORCH,
        lambda page: heads(page, "attributes")[1:6] == ["type", "shape", "element type", "initially", "None when"],
    ),
    "state dict": (STORCH, lambda page: heads(page, "state-dict")[1:4] == ["kind", "shape", "element type"]),
    "own methods": (STORCH, lambda page: rows_of(page, "methods")[0].find("a").get_text().startswith("__call__(")),
    "inherited methods and their origin": (STORCH, lambda page: heads(page, "methods")[-1] == "from"),
    "errors raised": (
        FUNCTION,
        lambda page: (
            heads(page, "raises") == ["exception", "phase", "when", "says"]
            and {row.find("td").get_text() for row in rows_of(page, "raises")} == {"call"}
        ),
    ),
    "notes": (STORCH, lambda page: page.find(id="notes").find("li")),
    "examples": (STORCH, lambda page: page.find(id="examples").find("pre")),
    "output of the examples": (STORCH, lambda page: "Local variables" in page.find(id="examples").get_text()),
    "copy button": (STORCH, None),  # test_examples_are_copied_without_prompts
    "used by": (
        "generated/docs/storch/functions.html",
        lambda page: page.find(id="randn").find("a", string="storch.nn.BatchNorm1d"),
    ),
    "see also": (STORCH, lambda page: page.find(id="see-also").find("a", string="storch.nn.BatchNorm2d")),
    "the same elsewhere": (STORCH, lambda page: len(page.select("nav.switch a")) == len(DIALECTS) - 1),
    "differences from torch": (STORCH, lambda page: rows_of(page, "differences-from-torch-nn-batchnorm1d")),
    "deviations from the original": (STORCH, lambda page: page.find(id="deviations").find("tbody").find("a")),
    "what is left out, and why": (STORCH, lambda page: page.find(id="left-out").find_all("li")),
    "on this page": (STORCH, lambda page: page.find_parent("html").select(".toc-tree a")),
}


def test_a_page_has_what_the_originals_have(pages):
    table = [row.find("th").get_text() for row in pages["docs/anatomy.html"].find("tbody").find_all("tr")]
    assert table == list(ANATOMY)
    for item, (name, found) in ANATOMY.items():
        assert found is None or found(pages[name].find("article")), item


@pytest.mark.parametrize("package", reference.LIBRARY)
def test_what_has_no_dialect_is_told_from_its_docstrings(package, pages):
    """Every public class, method and function is on a page, with every line of its docstring and its source."""
    if package.startswith("interop."):
        pytest.importorskip(package.partition(".")[2], reason="the library that it is for is not installed")
    for path, one in reference.members(package).items():
        page = next((page for page in pages.values() if page.find("dt", id=f"normspec.{path}")), None)
        assert page is not None, path
        members = [(path, one)]
        if inspect.isclass(one):
            own = {name: each for name, each in vars(one).items() if not name.startswith("_") and inspect.getdoc(each)}
            members += [(f"{path}.{name}", each) for name, each in own.items() if inspect.isroutine(each)]
        for name, member in members:
            entry = page.find("dt", id=f"normspec.{name}")
            assert entry.find("a", string="[source]"), name
            text = plain(entry.find_parent("dl").get_text())
            shown = reference.of_member(package, name[len(package) + 1 :])
            for line in (inspect.getdoc(member) or "").splitlines():
                assert line in shown
                for words in line.split(" : "):
                    if not re.fullmatch(r"-+|Parameters|Returns|Raises|Attributes|Examples", words):
                        for piece in re.split(r"\*+|, ", plain(words)):
                            assert piece in text, f"{name}: {piece}"


def rows_of(article, section):
    return article.find(id=section).find("table").find("tbody").find_all("tr")


def test_a_source_link_shows_the_definition(pages):
    link = pages[STORCH].find("a", string="source")
    path, fragment = urldefrag(urljoin(STORCH, link["href"]))
    assert pages[path].find(id=fragment).get_text().lstrip(" 0123456789").startswith("class BatchNorm1d(")


def test_examples_show_what_they_print_now(pages):
    article = pages["generated/docs/lucid/nn.BatchNorm1d.html"].find(id="examples")
    assert "(32, 128)" in article.get_text()
    variables = pages[STORCH].find(id="examples").get_text()
    assert "m = BatchNorm1d(numFeatures=100)" in variables
    assert "output = tensor dtype=float32, shape=[20, 100], device=CPU" in variables


def test_an_example_that_fails_fails_the_build(tmp_path):
    conf = f"import sys; sys.path.insert(0, {str(ROOT / 'docs' / '_ext')!r}); extensions = ['myst_parser', 'examples']"
    (tmp_path / "conf.py").write_text(conf)
    (tmp_path / "index.md").write_text("# Title\n\n```python\n>>> 1 + 1\n3\n```\n")
    done = sphinx(tmp_path, tmp_path / "html")
    assert done.returncode == 0, done.stderr
    shown = BeautifulSoup((tmp_path / "html" / "index.html").read_text(), "html.parser").find("pre").get_text()
    assert shown == ">>> 1 + 1\n2\n"
    (tmp_path / "index.md").write_text("# Title\n\n```python\n>>> 1 / 0\n```\n")
    done = sphinx(tmp_path, tmp_path / "html")
    assert done.returncode == 1
    assert "index.md:3: WARNING: this example fails: ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_the_site_does_not_need_the_library_that_a_page_is_about(library, tmp_path):
    """Whether it is installed here or not, a stand-in takes its place, as docs/conf.py has it."""
    extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
    (tmp_path / "conf.py").write_text(f"{extensions = }; autodoc_mock_imports = [{library!r}]")
    (tmp_path / "index.md").write_text((ROOT / "docs" / "api" / f"interop-{library}.md").read_text().replace("../", ""))
    done = sphinx(tmp_path, tmp_path / "html", "-D", "suppress_warnings=myst.xref_missing")
    assert done.returncode == 0, done.stderr
    assert "batch_norm" in (tmp_path / "html" / "index.html").read_text()


# What a reader does


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def server(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(params=["disk", "server"])
def base(request, site):
    return site.as_uri() if request.param == "disk" else request.getfixturevalue("server")


class Reader:
    """A page of the browser that remembers what went wrong, and what was asked for from elsewhere."""

    def __init__(self, browser, base, **options):
        self.base, self.errors, self.requests = base, [], []
        self.page = browser.new_context(**options).new_page()
        self.page.on(
            "console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text)
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, name):
        self.page.goto(f"{self.base}/{name}", wait_until="load")
        return self.page

    def check(self):
        assert not self.errors
        outside = [url for url in self.requests if not url.startswith((self.base, "data:"))]
        assert not outside


@pytest.fixture
def reader(browser, base):
    one = Reader(browser, base)
    yield one
    one.check()
    one.page.context.close()


def test_every_page_renders_wide_and_narrow(browser, site, pages):
    """No console error, no request to elsewhere, and no page is wider than a telephone."""
    reader = Reader(browser, site.as_uri())
    for name in pages:
        if name in ("index.html", "search.html"):
            continue  # the one leads on, the other is empty until it is used
        page = reader.open(name)
        assert page.locator("article").bounding_box()["height"] > 0, name
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
        page.set_viewport_size({"width": 1280, "height": 800})
    reader.check()


def test_the_front_door_leads_home(reader):
    page = reader.open("index.html")
    page.wait_for_url("**/docs/index.html")
    assert page.locator("h1").inner_text() == "normspec"


def test_a_formula_is_drawn(reader):
    box = reader.open(STORCH).locator("math").first.bounding_box()
    assert box["width"] > 100
    assert box["height"] > 20
    bar = reader.page.locator("math mfrac").first.bounding_box()
    assert bar["height"] > reader.page.locator("math mi").first.bounding_box()["height"] * 1.5  # stacked, not in a line


@pytest.mark.parametrize("words", ["runningMean", "BatchNorm1d", "cumulative"])
def test_search_finds(reader, words):
    page = reader.open("docs/index.html")
    page.locator("input.sidebar-search").first.fill(words)
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function("/matching|found/.test(document.querySelector('#search-results').textContent)")
    found = [
        link.get_attribute("href").partition("?")[0].partition("#")[0]
        for link in page.locator("#search-results li a").all()
    ]
    assert STORCH in found, found
    page.locator(f"#search-results li a[href^='{STORCH}']").first.click()
    page.wait_for_selector("h1")
    assert page.locator("h1").inner_text() == "storch.nn.BatchNorm1d"


def test_the_switch_leads_to_the_same_class(reader):
    page = reader.open(STORCH)
    for dialect, heading in [
        ("lucid", "lucid.nn.BatchNorm1d"),
        ("torch", "torch.nn.BatchNorm1d"),
        ("nvtripy", "nvtripy.BatchNorm"),
        ("tripy", "tripy.BatchNorm"),
        ("storch", "storch.nn.BatchNorm1d"),
    ]:
        page.locator("nav.switch").get_by_role("link", name=dialect, exact=True).click()
        page.wait_for_load_state()
        assert page.locator("h1").inner_text() == heading
        assert page.locator("nav.switch strong").inner_text() == dialect


def test_members_are_filtered(reader):
    page = reader.open("generated/docs/storch/index.html")
    rows = page.locator("#members-list tbody tr:visible")
    every = rows.count()
    page.get_by_label("Filter members").fill("namedParam")
    assert rows.count() == 1
    assert rows.first.inner_text().startswith("namedParameters")
    assert page.locator("#members-list output").inner_text() == f"1 of {every}"
    page.get_by_label("Filter members").fill("")
    assert rows.count() == every


def test_examples_are_copied_without_prompts(browser, server):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{server}/docs/index.html")
    block = page.locator("div.highlight").first
    block.hover()
    block.locator("button.copybtn").click()
    page.wait_for_selector("button.copybtn.success")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("import numpy as np\nfrom normspec.torch import nn\nbn = nn.BatchNorm2d(3)\n")
    assert "tensor" not in copied
    context.close()


def test_light_and_dark(browser, site):
    lightness = {}
    for scheme in ("light", "dark"):
        reader = Reader(browser, site.as_uri(), color_scheme=scheme)
        page = reader.open(STORCH)
        lightness[scheme] = brightness(page)
        if scheme == "light":
            while brightness(page) > 100:  # auto, light, dark
                page.locator("button.theme-toggle:visible").first.click()
        reader.check()
    assert lightness["light"] > 200
    assert lightness["dark"] < 60


def brightness(page):
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SHOWN)
def test_a_page_is_accessible(browser, site, name, scheme):
    """axe finds nothing: contrast, landmarks, names of links and buttons, headings of tables."""
    reader = Reader(browser, site.as_uri(), color_scheme=scheme)
    page = reader.open(SHOWN[name])
    found = Axe().run(page)["violations"]
    said = [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png")
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-narrow.png")
    assert not said
