"""The reference that is made of docstrings: all public names are in it, and no markup shows."""

import html
import re
import subprocess
import sys
import types

import pytest

import strata
from strata import engine
from tests.policy.source import ROOT

pytest.importorskip("pdoc")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The text of each page, by its path; made in a process of its own, since it fills modules."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, "-m", "tests.reference", folder], cwd=ROOT, check=True)
    found = {}
    for path in folder.rglob("*.html"):
        body = re.sub(r"<style.*?</style>|<[^>]+>", "", path.read_text(encoding="utf8"), flags=re.DOTALL)
        found[path.relative_to(folder).as_posix()] = " ".join(html.unescape(body).split())
    return found


@pytest.mark.parametrize(("page", "module"), [("strata.html", strata), ("strata/engine.html", engine)])
def test_every_exported_name_is_there_with_what_it_is(pages, page, module):
    text = _bare(pages[page])
    for name in module.__all__:
        value = getattr(module, name)
        assert name in pages[page]
        if isinstance(value, type | types.FunctionType):
            first = _bare(re.sub(r":\w+:`~?.*", "", value.__doc__.strip().splitlines()[0]))
            assert first in text, name


def _bare(text):
    """The words of a text; what stands between them is set in other ways on a page."""
    return " ".join(re.findall(r"[a-zA-Z]+", text))


def test_arguments_and_errors_are_set_apart_and_no_markup_shows(pages):
    assert "Arguments: source: a method's name or class, or a YAML file" in pages["strata.html"]
    assert "Raises: StrataError: what kept the run from beginning" in pages["strata.html"]
    for page, text in pages.items():
        assert not re.search(r":(func|class|mod|meth|data|attr):`", text), page
