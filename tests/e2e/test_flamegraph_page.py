# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
"""The flame graph page and picture in a real browser: what a user sees and does, read back from the visible text.

It takes make_flame from the build directory PROFD_BUILD, or ./build. Screenshots go to PROFD_SCREENSHOTS, or a temporary
directory.
"""
import os
import pathlib
import re
import subprocess
import xml.dom.minidom

import pytest

from browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
ROOT = pathlib.Path(__file__).resolve().parents[2]
ROW = 20


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Writes a made-up profile of one kind; returns its path."""
    build = pathlib.Path(os.environ.get("PROFD_BUILD", ROOT / "build"))
    directory = tmp_path_factory.mktemp("flame")
    program = build / "tests" / "e2e" / "make_flame"

    def make(kind, extension="html"):
        path = directory / f"{kind}.{extension}"
        if not path.exists():
            subprocess.run([program, kind, path], check=True, timeout=60)
        return path

    return make


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    directory = pathlib.Path(os.environ.get("PROFD_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    directory.mkdir(parents=True, exist_ok=True)
    print("screenshots:", directory)
    return directory


@pytest.fixture(scope="module")
def chromium():
    with Browser() as browser:
        yield browser


@pytest.fixture
def page(chromium, files):
    chromium.dark(False)
    chromium.open(files("demo"))
    yield chromium
    assert chromium.errors() == []
    assert chromium.requests() == []


def point(page, level, share):
    """The middle of row `level` of the graph, at `share` of its width."""
    left, top, width, _ = page.box("#view")
    return left + width * share, top + level * ROW + ROW / 2


def choose(page, selector, label):
    """Takes the option of a <select> whose text is label."""
    page.evaluate(f"""(() => {{
        const select = document.querySelector("{selector}");
        select.value = Array.from(select.options).find((option) => option.textContent === "{label}").value;
        select.dispatchEvent(new Event("change"));
    }})()""")
    page.settle()


def pixel(page, x, y):
    """The colour drawn at a point of the window."""
    return tuple(page.evaluate(f"""(() => {{
        const canvas = document.querySelector("#canvas"), box = canvas.getBoundingClientRect();
        return Array.from(canvas.getContext("2d").getImageData({x} - box.left, {y} - box.top, 1, 1).data).slice(0, 3);
    }})()"""))


# The demo: flush_loop 12.97%, and Worker::run 87.03%, whose handle() has deflate 20%, parse_json 30%, render 12%…

def test_opens(page, shots):
    assert page.text("h1") == "Flame graph of shop-server"
    assert page.text("#summary") == "samples: 10,000 samples in 30.00 s"
    assert page.text("#zoomed") == "All: 10,000 samples"
    assert page.text("#legend") == "shop-serverlibz.so.1.2.13libc.so.6"
    assert page.evaluate("document.title") == "Flame graph of shop-server"
    page.screenshot(shots / "light.png")


def test_tooltip(page):
    page.move(*point(page, 4, 0.5))
    assert page.text("#tooltip b") == "parse_json"
    assert page.text("#tooltip .place") == "/usr/local/bin/shop-server · src/json.c:210"
    assert page.text("#tooltip div") == "total3,000 samples30.00% of totalself3,000 samples30.00% of total"
    page.move(*point(page, 12, 0.5))
    assert page.evaluate("document.querySelector('#tooltip').hidden")


def test_click_zooms_and_back_returns(page, shots):
    page.click(*point(page, 2, 0.5))
    assert page.text("#zoomed") == "Zoomed: shop::Worker::run() — 87.03% of total"
    page.move(*point(page, 4, 0.3))  # parse_json has moved to the left
    assert page.text("#tooltip b") == "parse_json"
    assert "34.47% of zoomed" in page.text("#tooltip div")
    page.screenshot(shots / "zoomed.png")
    page.click(*point(page, 4, 0.3))
    assert page.text("#zoomed") == "Zoomed: parse_json — 30.00% of total"
    page.click_on("#back")
    assert page.text("#zoomed").startswith("Zoomed: shop::Worker::run()")
    page.click(*point(page, 1, 0.9))  # a caller, which stays above
    assert page.text("#zoomed") == "Zoomed: start_thread — 100.00% of total"
    page.key("Backspace")
    page.click_on("#reset")
    assert page.text("#zoomed") == "All: 10,000 samples"
    assert page.evaluate("document.querySelector('#reset').disabled")


@pytest.mark.parametrize("text, matched", [
    ("parse", "matched 36.00% (3,600 samples)"),      # recursion (600) counted once
    ("PARSE_JSON", "matched 36.00% (3,600 samples)"),  # text ignores case
    ("/^(deflate|longest_match)$/", "matched 20.00% (2,000 samples)"),  # one above the other
    ("/PARSE/", "matched 0.00% (0 samples)"),
    ("/PARSE/i", "matched 36.00% (3,600 samples)"),
    ("find(std::", "matched 25.00% (2,500 samples)"),  # text is no pattern
    ("/find(/", "not a valid pattern"),
    ("no such function", "matched 0.00% (0 samples)"),
    ("", ""),
])
def test_search(page, text, matched):
    page.key("/")
    page.type(text)
    assert page.text("#matched") == matched


def test_search_is_seen_and_walked(page, shots):
    x, y = point(page, 4, 0.5)
    before = pixel(page, x + 100, y)
    page.key("/")
    page.type("parse")
    page.screenshot(shots / "searched.png")
    assert pixel(page, x + 100, y) == (0xa3, 0x15, 0x7f) != before
    page.key("Enter")
    assert page.text("#status").startswith("parse_json — 3,000 samples")
    page.key("Enter")
    assert page.text("#status").startswith("parse_json — 600 samples")
    page.key("Escape")
    assert page.text("#matched") == ""
    assert pixel(page, x + 100, y) == before


def test_keys(page):
    page.key("ArrowDown")
    assert page.text("#status").startswith("all — ")
    page.key("ArrowDown")
    page.key("ArrowDown")
    assert page.text("#status").startswith("shop::Worker::run() — 8,703 samples, 87.03% of total")
    page.key("ArrowLeft")
    assert page.text("#status").startswith("shop::Log::flush_loop() — ")
    page.key("ArrowRight")
    page.key("Enter")
    assert page.text("#zoomed").startswith("Zoomed: shop::Worker::run()")
    page.key("ArrowUp")
    assert page.text("#status").startswith("start_thread — ")
    page.key("Escape")
    assert page.text("#zoomed").startswith("All: ")
    page.key("?")
    assert page.evaluate("document.querySelector('#help').open")
    page.key("Escape")
    assert not page.evaluate("document.querySelector('#help').open")


def test_flame_and_icicle(page, shots):
    _, top, _, height = page.box("#view")
    page.key("i")
    assert page.text("#invert") == "Flame"
    x, _ = point(page, 0, 0.5)
    page.move(x, top + height - ROW * 1.5)
    assert page.text("#tooltip b") == "start_thread"
    page.screenshot(shots / "flame.png")
    page.key("ArrowUp")
    page.key("ArrowUp")
    assert page.text("#status").startswith("start_thread — ")
    page.key("i")
    page.move(*point(page, 1, 0.5))
    assert page.text("#tooltip b") == "start_thread"


def test_values_and_threads(page):
    choose(page, "#type", "cpu (nanoseconds)")
    assert page.text("#zoomed") == "All: 100.00 s"
    choose(page, "#thread", "log-flusher (104)")
    assert page.text("#zoomed") == "All: 12.97 s"
    page.key("/")
    page.type("parse")
    assert page.text("#matched") == "matched 46.26% (6.00 s)"
    choose(page, "#thread", "worker ×3")
    assert page.text("#zoomed") == "All: 87.03 s"
    assert page.text("#matched") == "matched 34.47% (30.00 s)"


def test_colors_table_and_info(page, shots):
    x, y = point(page, 1, 0.9)
    by_module = pixel(page, x, y)
    page.key("c")
    assert pixel(page, x, y) != by_module
    page.key("t")
    rows = page.evaluate("Array.from(document.querySelectorAll('#rows tr'), (row) => row.innerText.split(/\\s+/).slice(0, 5))")
    assert rows[0] == ["3,600", "36.00%", "3,600", "36.00%", "parse_json"]
    assert rows[1] == ["2,000", "20.00%", "2,000", "20.00%", "longest_match"]
    page.click_on("#rows tr:nth-child(2) button")
    assert page.text("#matched") == "matched 20.00% (2,000 samples)"
    page.screenshot(shots / "table.png")
    page.click_on("#info-button")
    info = page.text("#info")
    assert "rate asked: 100 Hz, reached: 99.8 Hz" in info and "dropped: 12 of 10012" in info and "truncated stacks: 3" in info
    assert "2023-11-14T22:13:20" in info
    page.screenshot(shots / "info.png")


def test_dark(page, shots):
    page.dark(True)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 25, 29)"
    page.screenshot(shots / "dark.png")


def test_names_are_short_in_boxes_and_whole_where_the_pointer_is(chromium, files):
    whole = "void ns::sort<std::pair<int, long> >(std::pair<int, long>*, unsigned long)"
    chromium.open(files("long"))
    chromium.click(*point(chromium, 1, 0.75))
    assert chromium.text("#zoomed") == "Zoomed: ns::sort<…>(…) — 50.00% of total"
    chromium.move(*point(chromium, 1, 0.4))
    assert chromium.text("#tooltip b") == whole
    assert "No name" not in chromium.text("#tooltip")
    chromium.click_on("#reset")
    chromium.move(*point(chromium, 1, 0.25))
    assert chromium.text("#tooltip b").startswith("app+0x")
    assert "No name: install app-dbgsym" in chromium.text("#tooltip")
    chromium.key("t")
    second = "#rows tr:nth-child(2) button"
    assert chromium.text(second) == "ns::sort<…>(…)"
    assert chromium.evaluate(f"document.querySelector('{second}').title") == whole
    chromium.click_on(second)
    assert "50.00%" in chromium.text("#matched")  # what is searched is the whole name


def test_hostile_names(chromium, files, shots):
    chromium.open(files("hostile"))
    chromium.move(*point(chromium, 2, 0.3))
    assert chromium.text("#tooltip b").startswith("</script><img src=x onerror=\"document.title='pwned'\">'\ufffd\ufffd\ufffd & \ufffd")
    chromium.key("t")
    chromium.click_on("#info-button")
    chromium.screenshot(shots / "hostile.png")
    assert chromium.evaluate("document.title") == "Flame graph of shop-server"
    assert chromium.evaluate("document.querySelectorAll('img').length") == 0
    assert chromium.evaluate("document.querySelectorAll('script').length") == 2
    assert chromium.errors() == [] and chromium.requests() == []


def test_deep_stack_scrolls(chromium, files):
    chromium.open(files("deep"))
    chromium.key("/")
    chromium.type("level_1024")
    chromium.key("Enter")
    assert chromium.text("#status").startswith("level_1024 — 90 samples, 90.00% of total")
    assert chromium.evaluate("document.querySelector('#view').scrollTop") > 1000 * ROW - 800
    assert chromium.errors() == []


def test_empty_profile(chromium, files):
    chromium.open(files("empty"))
    assert chromium.text("#summary") == "samples: 0 samples in 30.00 s · nothing was sampled"
    chromium.key("ArrowDown")
    chromium.key("/")
    chromium.type("x")
    assert chromium.text("#matched") == "matched 0.00% (0 samples)"
    assert chromium.errors() == []


@pytest.mark.parametrize("kind, megabytes", [("many", 4), ("worst", 8)])
def test_fifty_thousand_stacks(chromium, files, shots, kind, megabytes, record_property):
    path = files(kind)
    size = path.stat().st_size
    opened = chromium.open(path)
    begin = "const begin = performance.now()"
    zoom = chromium.evaluate(f"(() => {{ {begin}; document.querySelector('#view').focus();"
                             "for (const key of ['ArrowDown', 'ArrowDown', 'ArrowDown', 'Enter'])"
                             "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));"
                             "return performance.now() - begin; })()")
    assert re.match(r"Zoomed: service::module_\d+::", chromium.text("#zoomed"))
    search = chromium.evaluate(f"(() => {{ {begin}; const field = document.querySelector('#search'); field.value = 'method_7';"
                               "field.dispatchEvent(new Event('input')); return performance.now() - begin; })()")
    assert re.match(r"matched [\d.]+% ", chromium.text("#matched"))
    chromium.screenshot(shots / f"{kind}.png")
    print(f"{kind}: {size / 1e6:.1f} MB, opened in {opened:.2f} s of CPU time, zoom {zoom:.0f} ms, search {search:.0f} ms")
    assert size < megabytes * 1e6
    assert opened < 5 and zoom < 1500 and search < 2000  # several times, thirty times what a busy machine needs
    assert chromium.errors() == []


@pytest.mark.parametrize("kind", ["demo", "hostile", "deep", "many", "worst", "empty"])
def test_svg_is_xml(files, kind):
    path = files(kind, "svg")
    xml.dom.minidom.parse(str(path))
    assert path.stat().st_size < 1_000_000


def test_svg_zoom_and_search(chromium, files, shots):
    chromium.dark(False)
    chromium.open(files("demo", "svg"))
    chromium.screenshot(shots / "svg.png")
    box = "Array.from(document.querySelectorAll('#frames g')).find((g) => g.textContent.startsWith('parse_json\\n') && g.dataset.d === '4' && g.dataset.n === '3000')"
    assert float(chromium.evaluate(f"{box}.querySelector('rect').getAttribute('width')")) == pytest.approx(352.8, abs=0.1)
    chromium.click(700, 84 + 18 * 2 + 9)  # Worker::run
    assert float(chromium.evaluate(f"{box}.querySelector('rect').getAttribute('width')")) == pytest.approx(405.4, abs=0.5)
    flusher = "Array.from(document.querySelectorAll('#frames g')).find((g) => g.textContent.startsWith('shop::Log'))"
    assert chromium.evaluate(f"{flusher}.style.display") == "none"
    chromium.key("/")
    chromium.type("parse")
    assert chromium.text("#matched") == "matched 36.00%"
    chromium.screenshot(shots / "svg_searched.png")
    chromium.key("Escape")
    chromium.click_on("#reset")
    assert chromium.evaluate(f"{flusher}.style.display") == ""
    assert chromium.text("#footer") == "1 frame of at most 0.1% left out"
    assert chromium.errors() == []


def test_svg_texts_stay_in_their_boxes(chromium, files):
    for kind in ("demo", "many"):
        chromium.open(files(kind, "svg"))
        assert chromium.evaluate("""Array.from(document.querySelectorAll('#frames g')).filter((g) => {
            const text = g.querySelector('text'), rect = g.querySelector('rect').getBBox();
            return text.textContent && text.getBBox().x + text.getBBox().width > rect.x + rect.width + 0.5;
        }).length""") == 0
