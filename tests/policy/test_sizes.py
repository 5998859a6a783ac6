"""How large folders, files and functions may be, and what else the whole source is measured by."""

import ast

import pytest

from tests.policy import sizes
from tests.policy.source import annotations, function_lengths, names_any


def lines(n):
    return "x = 0\n" * n


def function(n, docstring=""):
    """A function of n lines without its docstring."""
    return f"def f():\n{docstring}" + "    x = 0\n" * (n - 1)


def test_no_folder_is_crowded():
    assert sizes.crowded_folders() == {}


def test_no_file_is_long():
    over = sizes.long_files()
    assert over == {}


def test_functions_are_short():
    assert sizes.function_lines_p90() <= sizes.FUNCTION_LINES_P90


def test_annotations_say_more_than_any():
    assert sizes.any_share() <= sizes.ANY_SHARE


def test_no_two_modules_have_one_name():
    shared = sizes.shared_names()
    assert shared == {}


def test_a_crowded_folder_is_seen(tmp_path):
    for folder, files in (("engine/data", 15), ("engine/models", 16), ("tests/engine", 16), ("algorithms", 40)):
        (tmp_path / folder / "__pycache__").mkdir(parents=True)
        for name in (*(f"f{n}.py" for n in range(files)), "__init__.py", "README.md", "__pycache__/f.pyc"):
            (tmp_path / folder / name).touch()
    assert sizes.crowded_folders(tmp_path) == {"engine/models": 16, "tests/engine": 16}


def test_a_long_file_is_seen(tmp_path):
    (tmp_path / "engine").mkdir()
    (tmp_path / "tests").mkdir()
    for path, n in (("engine/at_the_limit.py", 350), ("engine/over.py", 351), ("tests/test_over.py", 400)):
        (tmp_path / path).write_text(lines(n))
    assert sizes.long_files(tmp_path) == {"engine/over.py": 351, "tests/test_over.py": 400}


@pytest.mark.parametrize(("long", "p90"), [(1, 3), (2, 40)])
def test_long_functions_are_seen(tmp_path, long, p90):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "a.py").write_text(function(3) * (11 - long) + function(40) * long)
    assert sizes.function_lines_p90(tmp_path) == p90


def test_a_docstring_is_no_length():
    text = function(4, '    """Says.\n\n    Much.\n    """\n') + "class A:\n    async def g(self): ...\n"
    assert list(function_lengths(ast.parse(text))) == [4, 1]


def test_any_is_counted_per_annotation(tmp_path):
    (tmp_path / "agents").mkdir()
    text = (
        "import typing\nfrom typing import Any\n"
        "def f(a: int, *b: dict[str, Any], c: 'list[Any]' = (), d=Any) -> typing.Any: ...\n"
        "class A:\n    e: str\n    f: Anything\n    g = Any\n"
        "    async def h(self) -> None: ...\n"
    )
    (tmp_path / "agents" / "a.py").write_text(text)
    assert [names_any(annotation) for annotation in annotations(ast.parse("x: 'Any'\ny: 'Anything'"))] == [True, False]
    assert sizes.any_share(tmp_path) == 3 / 7


def test_two_modules_of_one_name_are_seen(tmp_path):
    for path in ("engine/clock/costs.py", "agents/costs.py", "engine/config.py", "agents/config.py", "envs/plain.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert sizes.shared_names(tmp_path) == {"costs": ["agents/costs.py", "engine/clock/costs.py"]}
