from __future__ import annotations

import shutil
import subprocess

import pytest
from headless_browser import Page, find_browser
from report_campaign import make_setting

from nnunet_active.report.report_page import write_report

HEADS = "[...document.querySelector('.ranked').tHead.rows[0].cells]"
CASES = "[...document.querySelectorAll('.ranked')[0].tBodies[0].rows].map(r => r.cells[1].innerText)"


@pytest.fixture(scope="module")
def browser() -> str:
    found = find_browser()
    if found is None:
        pytest.skip("no Chromium or Chrome on the PATH; name one with NNUNET_ACTIVE_TEST_BROWSER")
    return found


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """The report of a campaign, opened; every test finds it freshly loaded."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / variable).mkdir()
            patch.setenv(variable, str(root / variable))
        setting = make_setting(root)
        file = write_report(setting.workspace, setting.results, root / "report.html")
    with Page(browser) as one:
        one.file = file
        yield one


@pytest.fixture
def report(page):
    page.open(page.file)
    yield page
    assert page.complaints == []


def names(report) -> list[str]:
    return report.run(CASES)


def sorted_by(report) -> dict[str, str]:
    found = report.run(f"{HEADS}.map(h => [h.innerText.trim(), h.getAttribute('aria-sort')])")
    return {name: how for name, how in found if how != "none"}


def test_it_loads_without_a_complaint_or_a_request_and_every_picture_is_there(report):
    assert report.complaints == []
    assert report.requests == [report.file.resolve().as_uri()]
    assert report.run("document.images.length") == 4 * 2 * 3
    assert report.run("[...document.images].every(i => i.naturalWidth > 0)")
    # the uncertainty lies in drawings, whose pictures the list above does not hold
    addresses = "[...document.querySelectorAll('image')].map(i => i.href.baseVal)"
    load = (
        "Promise.all(%s.map(address => new Promise(done => {const one = new Image(); "
        "one.onload = () => done(one.naturalWidth); one.onerror = () => done(0); one.src = address})))"
    )
    widths = report.run(load % addresses)
    assert len(widths) == 4 * 3 and min(widths) > 0


def test_a_click_sorts_the_table_and_a_second_one_turns_it_around(report):
    before = names(report)
    assert before[:2] == ["case_2", "case_3"] and sorted_by(report) == {}
    report.click(f"{HEADS}.find(h => h.innerText.includes('rho')).querySelector('button')")
    assert sorted_by(report) == {"rho": "descending"}
    # rho rises down the table, and the first case has none: it comes last both ways
    assert names(report) == [*reversed(before[1:]), before[0]]
    report.click(f"{HEADS}.find(h => h.innerText.includes('rho')).querySelector('button')")
    assert sorted_by(report) == {"rho": "ascending"} and names(report) == [*before[1:], before[0]]
    assert report.run("document.getElementById('announce').textContent") == "Sorted by rho, ascending"


@pytest.mark.parametrize("key", ["Enter", " "])
def test_the_keyboard_sorts_as_well(report, key):
    report.run(f"{HEADS}[0].querySelector('button').focus()")
    report.press("Tab")
    assert report.run("document.activeElement.innerText") == "case"
    report.press(key)
    assert sorted_by(report) == {"case": "ascending"} and names(report) == ["case_2", "case_3", "case_4", "case_5"]
    report.press(key)
    assert sorted_by(report) == {"case": "descending"} and names(report)[0] == "case_5"


def test_rows_stay_whole_when_they_move(report):
    rows = "Object.fromEntries([...document.querySelector('.ranked').tBodies[0].rows].map(r => [r.cells[1].innerText, r.innerText]))"
    before = report.run(rows)
    report.click(f"{HEADS}[4].querySelector('button')")
    report.click(f"{HEADS}[4].querySelector('button')")
    assert names(report)[0] == "case_5" and report.run(rows) == before


def test_outline_and_uncertainty_can_be_hidden(report):
    for what, drawn in (("outline", "o"), ("uncertainty", "u")):
        shown = f"getComputedStyle(document.querySelector('use.{drawn}')).display"
        assert report.run(shown) == "inline"
        report.click(f"document.getElementById('show-{what}')")
        assert report.run(shown) == "none"


def test_a_link_to_a_case_of_an_earlier_round_opens_it(report):
    closed = "document.querySelector('details.round').open"
    assert not report.run(closed)
    report.run("location.hash = '#case-1-1'")
    assert report.run(f"new Promise(done => setTimeout(() => done({closed}), 100))")
    assert report.run("document.getElementById('case-1-1').checkVisibility()")


def test_slices_have_the_proportions_of_the_patient(report):
    frames = (
        "[...document.querySelectorAll('#case-2-1 .frame')].map(frame => "
        "{const box = frame.getBoundingClientRect(); return box.width / box.height})"
    )
    ratios = report.run(frames)
    assert ratios == pytest.approx([18 / 20] * 2 + [18 / 24] * 2 + [20 / 24] * 2, rel=0.02)


def test_it_fits_a_narrow_window_and_prints_on_a4(page, browser, tmp_path):
    with Page(browser, width=500) as narrow:
        narrow.open(page.file)
        assert narrow.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert narrow.screenshot(tmp_path / "narrow.png").stat().st_size > 10_000
        paper = narrow.pdf(tmp_path / "report.pdf").read_bytes()
    assert paper.startswith(b"%PDF")
    assert b"/MediaBox [0 0 594" in paper or b"/MediaBox [0 0 595" in paper
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", tmp_path / "report.pdf", "-"], capture_output=True, text=True).stdout
        assert "case_2" in text and "Patient data." in text
