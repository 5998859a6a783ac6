"""What the text of files may and must not say."""

import pytest

from tests.policy import texts
from tests.policy.source import ROOT

METHODS = sorted((ROOT / "algorithms").glob("[a-z]*.py"))


def test_nothing_loads_pickles_or_names_a_registry():
    assert list(texts.unsafe()) == []


def test_methods_leave_threads_and_modes_to_the_engine():
    assert len(METHODS) > 10
    assert list(texts.meddling_methods()) == []


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_a_docstring_that_begins_with_a_symbol_writes_it_as_its_module_does(path):
    assert list(texts.unknown_symbols(path)) == []


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_the_steps_of_a_method_are_a_line_each(path):
    assert list(texts.glued_steps(path)) == []


def test_docstrings_refer_to_modules_by_their_installed_names():
    assert list(texts.bare_mentions()) == []


@pytest.mark.parametrize(
    ("path", "text", "seen"),
    [
        ("engine/a.py", "import pickle\npickle.load(file)", "engine/a.py: pickle.load"),
        ("cluster/a.py", "torch.load(path)", "cluster/a.py: torch.load("),
        ("envs/a.py", "np.load(path, allow_pickle=True)", "envs/a.py: allow_pickle=True"),
        ("README.md", "see https://py" + "pi.org/project/x", "README.md names a package registry"),
        ("agents/a.py", "# files.python" + "hosted.org", "agents/a.py names a package registry"),
    ],
)
def test_an_unsafe_file_is_seen(tmp_path, path, text, seen):
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)
    assert list(texts.unsafe(tmp_path)) == [seen]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("with single_thread(): ...", "single_thread"),
        ("torch.set_num_threads(2)", "num_threads"),
        ("model.eval()", ".eval()"),
        ("model.train()", ".train()"),
    ],
)
def test_a_meddling_method_is_seen(tmp_path, text, seen):
    (tmp_path / "algorithms").mkdir()
    (tmp_path / "algorithms" / "bad.py").write_text(text)
    assert list(texts.meddling_methods(tmp_path)) == [f"bad.py: {seen}"]


@pytest.mark.parametrize(
    ("table", "docstring", "seen"),
    [
        ("w  weights", "W ← mean of the uploads.", ["bad.py: f: W ←"]),
        ("W  weights", "W ← mean of the uploads.", ["bad.py: f: W ←"]),
        ("W ← Σ", "W ← mean of the uploads.", []),
        ("w  weights", "K classes.", ["bad.py: f: K"]),
        ("K classes", "K classes.", []),
        ("w  weights", "A mean of the uploads.", []),
    ],
)
def test_a_symbol_that_the_table_lacks_is_seen(tmp_path, table, docstring, seen):
    (tmp_path / "bad.py").write_text(f'"""{table}"""\n\n\ndef f():\n    """{docstring}"""\n')
    assert list(texts.unknown_symbols(tmp_path / "bad.py")) == seen


def test_a_reference_to_a_bare_name_is_seen(tmp_path):
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "a.py").write_text('"""See :mod:`engine.tree`, :mod:`envs`, :mod:`strata.envs`."""\n')
    assert list(texts.bare_mentions(tmp_path)) == ["engine/a.py: :mod:`engine.", "engine/a.py: :mod:`envs`"]


def test_steps_that_were_glued_together_are_seen(tmp_path):
    steps = "    1. agents  size 2.5 2. server  sends 3. client\n    4. all\n"
    (tmp_path / "bad.py").write_text(f'"""Round\n\n{steps}"""\n')
    assert list(texts.glued_steps(tmp_path / "bad.py")) == ["bad.py: 2. server", "bad.py: 3. client"]
