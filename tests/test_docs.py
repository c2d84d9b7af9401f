"""The documentation names flags, files and sections that exist, and keeps its length."""

import pathlib
import re

import pytest

from fv import options
from tests import test_advice

ROOT = pathlib.Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs").glob("*.md"))
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.md"))
PAGES = [
    *ROOT.glob("*.md"),
    *GUIDES,
    *RESULTS,
    ROOT / "tfrecords" / "README.md",
    ROOT / "data" / "README.md",
]
MOST_WORDS = {"README.md": 900, "BUILD.md": 600} | {guide.name: 1200 for guide in GUIDES}
OTHER_TOOLS = {  # docker, pip, Beam
    *(
        "rm",
        "read-only",
        "tmpfs",
        "user",
        "gpus",
        "build-arg",
        "target",
        "model_config_file",
        "no-deps",
        "wheel-dir",
        "upgrade",
    ),
    *("direct_running_mode", "direct_num_workers", "dask_client_address"),
    *("project", "region", "temp_location", "sdk_container_image"),
}


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_section(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), target
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.M) if anchor else ()
            assert not anchor or anchor in map(slug, headings), target


def unknown_flags(text: str, known: set[str]) -> set[str]:
    """The flags in a text that neither a command nor another tool has, nor `known` names."""
    known = known | {
        flag.partition("=")[0].removeprefix("--")
        for command in test_advice.COMMANDS
        for flag, _ in options.describe(command)
    }
    known |= test_advice.OF_ALL_COMMANDS | test_advice.OF_OTHER_TOOLS | OTHER_TOOLS
    known |= test_advice.PLACEHOLDERS
    named = set(re.findall(r"(?<![\w-])--([a-z][a-z_-]*)", text))
    return {flag for flag in named if not {flag, flag.removeprefix("no")} & known}


@pytest.mark.parametrize("page", [*GUIDES, ROOT / "README.md", ROOT / "BUILD.md"], ids=name)
def test_a_guide_names_flags_of_commands_and_keeps_its_length(page):
    text = page.read_text()
    assert unknown_flags(text, set()) == set()
    assert len(text.split()) <= MOST_WORDS[page.name]


@pytest.mark.parametrize("page", RESULTS, ids=name)
def test_results_name_flags_of_commands_and_of_the_benchmarks(page):
    sources = (path.read_text() for path in (ROOT / "benchmarks").rglob("*.py"))
    pattern = r"^    (\w+): [^=\n]+ = (?:option|required)\("
    own = {flag for source in sources for flag in re.findall(pattern, source, re.M)}
    assert unknown_flags(page.read_text(), own) == set()


def test_variants_of_a_sweep_name_flags_of_commands():
    for page in (ROOT / "configs").glob("*.variants"):
        assert unknown_flags(page.read_text(), set()) == set()
