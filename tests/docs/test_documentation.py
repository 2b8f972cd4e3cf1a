"""README and docs: what they link to is there, what they tell people to type works, and they stay short."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from nnunet_active.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
PICTURES = [file for file in sorted((ROOT / "docs").iterdir()) if file.suffix in (".png", ".svg")]
BASES = (ROOT, ROOT / "nnunet_active")
MOST_README_WORDS, MOST_WORDS, MOST_PICTURE_BYTES = 1050, 12_000, 200_000

_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PLACEHOLDERS = {"...", "COMMAND", "[CASE]"}


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", _text(page)), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def _links(page: Path) -> list[str]:
    """Targets that are no web address."""
    return [link for link in _LINK.findall(_FENCE.sub("", _text(page))) if "://" not in link]


def _typed(page: Path) -> list[str]:
    """What the page tells people to type: lines of code blocks and code within sentences."""
    text = _text(page)
    lines = [line.strip().removeprefix("$ ") for block in _FENCE.findall(text) for line in block.splitlines()[1:-1]]
    inline = re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
    # a command that the product prints, as in "Next: nnunet_active ..."
    printed = [
        line[start.start() :] for line in lines for start in re.finditer(r"(?<=: )(nnunet_active|nnUNetv2_)", line)
    ]
    return [line for line in [*lines, *printed, *inline] if re.match(r"(nnunet_active |nnUNetv2_)", line)]


def test_the_pages_of_the_documentation_are_found() -> None:
    assert len(PAGES) >= 5
    assert len(PICTURES) >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    broken = []
    for link in _links(page):
        name, _, anchor = link.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_file() or (anchor and anchor not in _anchors(file)):
            broken.append(link)
    assert broken == []


def test_every_page_and_picture_is_linked_from_somewhere() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in _links(page)}
    assert [file.name for file in [*PAGES[1:], *PICTURES] if file not in linked] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_ours_parses_as_it_is_printed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser, refused = build_parser(), {}
    for line in _typed(page):
        words = shlex.split(line, comments=True)
        if words[0] != "nnunet_active" or _PLACEHOLDERS & set(words):
            continue
        try:
            parser.parse_args(words[1:])
        except SystemExit:
            refused[line] = capsys.readouterr().err.strip().splitlines()[-1]
    # `nnunet_active select` within a sentence is a name; what is wrong with it is only that flags are missing
    wrong = {line: why for line, why in refused.items() if " -" in line or "are required" not in why}
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_nnunets_that_a_page_names_exists(page: Path) -> None:
    there = {entry.name for entry in entry_points(group="console_scripts")}
    assert set(re.findall(r"nnUNetv2_\w*\w", _text(page))) - there == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_and_table_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`([\w/]+/[\w.]+\.(?:py|csv))`", _text(page))
    assert [name for name in named if not any((base / name).is_file() for base in BASES)] == []


def test_commands_are_found_in_the_readme_at_all() -> None:
    names = {shlex.split(line, comments=True)[1] for line in _typed(README) if line.startswith("nnunet_active ")}
    assert {"select", "ingest", "next", "doctor"} <= names


def test_the_readme_and_the_documentation_stay_short() -> None:
    words = {page.name: len(_text(page).split()) for page in PAGES}
    assert words["README.md"] <= MOST_README_WORDS
    assert sum(words.values()) < MOST_WORDS


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_pictures_are_small(picture: Path) -> None:
    assert picture.stat().st_size < MOST_PICTURE_BYTES


def test_the_commands_for_the_demo_and_the_tests_stay_one_line_each() -> None:
    lines = _text(README).splitlines()
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/nnunet_active demo" in lines
    assert 'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/python tests/run.py' in lines
