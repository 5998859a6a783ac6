"""What is read of YAML: the values that are written, and a reason where there is none."""

import pytest

from strata.cluster.cli import main
from strata.engine.config.load import load_config
from strata.engine.config.reading import DEEPEST, read
from strata.engine.config.written import parse_overrides, read_yaml
from strata.engine.errors import ConfigError
from tests.helpers.small import small_overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            (text, text)
            for text in ("no", "on", "Yes", "off", "y", "1:30", "010", "-01", "1_000", "0x10", "0b1", "0o7")
        ],
        *[
            (text, text)
            for text in ("2026-01-01", "2026-13-45", "12:30:45.5", "9" * 5000, "1e", ".", "+", "=", "<<", "1.2.3")
        ],
        *[(text, int(text)) for text in ("0", "-0", "+7", "-12", "9" * 18)],
        *[(text, float(text)) for text in ("1e-3", "1E5", ".5", "5.", "-0.25", "+1.5e+2", "0.10")],
        (".inf", float("inf")),
        ("-.inf", float("-inf")),
        *[(text, text.lower() == "true") for text in ("true", "True", "FALSE", "false")],
        *[(text, None) for text in ("null", "~", "")],
        ("[1, no, {a: 0.5, b: [x]}]", [1, "no", {"a": 0.5, "b": ["x"]}]),
        ("'010'", "010"),
        ("'a #1'", "a #1"),
        ("!!str 5", "5"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_values_are_those_that_are_written(text, value):
    found = read(text)
    assert (found, type(found)) == (value, type(value))


ODD = {
    "a: 1\nb: 2\na: 3": "the key 'a' is given twice, line 3, column 1",
    "a: &x {b: 1}\nc: *x": r"\*x stands for another value; write that value here, line 2, column 4",
    "{1: a, true: b}": "the key True is given twice",
    "a: &x [*x]": r"\*x stands for another value",
    "[" * 5000: f"more than {DEEPEST} levels",
    "a: !!python/object/apply:os.system [x]": "could not determine a constructor",
    "a: !mine 3": "could not determine a constructor",
    "a: [1, 2": "expected ',' or ']'",
    "a: \x07": "special characters are not allowed",
    "? [1]\n: 2": "unhashable key",
    "a: 1\n---\nb: 2": "but found another document",
}


@pytest.mark.parametrize(("text", "problem"), ODD.items(), ids=[text[:20] for text in ODD])
def test_a_file_that_is_none_says_what_is_wrong_with_it_and_where(tmp_path, text, problem):
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf8")
    with pytest.raises(ConfigError, match=problem) as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 400
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_no_configuration(tmp_path, text, capsys):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    assert main(["run", str(path), f"output={tmp_path / 'runs'}"]) == 1
    assert "expected keys and values, found nothing" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_bytes("output: größe".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=010", "seed='010': expected a whole number ≥ 0"),
        ("rounds=1:30", "rounds='1:30': expected a whole number ≥ 1"),
        ("rounds=1_000", "rounds='1_000': expected a whole number"),
        ("rounds=" + "9" * 5000, "expected a whole number"),
        ("rounds=" + "9" * 19, "expected a whole number"),
        ("method.lr=1_0.5", "method.lr='1_0.5': expected a number"),
        ("tracking.artifacts=yes", "tracking.artifacts='yes': expected true or false"),
        ("output=1e3", "output=1000.0: expected text, in the command line. Quote it"),
        ("output=true", "output=True: expected text"),
        ("rounds=5 #6", "rounds='5 #6': expected a whole number"),
        ("seeds=[1 #2]", "the value cannot be read"),
        ("output=*x", r"the value cannot be read (*x stands for another value; write that value here"),
        ("output=" + "[" * 5000, "the value cannot be read (more than"),
        ("output=\udcff", "cannot be read"),
        ("output=!!python/object:os.system x", "the value cannot be read"),
    ],
    ids=lambda value: value[:30].encode("ascii", "replace").decode(),
)
def test_what_a_setting_cannot_be_is_refused_by_name(word, said):
    with pytest.raises(ConfigError) as caught:
        load_config("fedavg", [word])
    assert said in str(caught.value)
    str(caught.value).encode("utf8")  # a terminal can show it


def test_a_folder_below_ones_home_is_there_and_not_one_named_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    assert main(["run", "fedavg", *small_overrides("fedavg", "rounds=1", "output=~/runs")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert len(list((tmp_path / "home" / "runs").iterdir())) == 1


def test_a_folder_named_by_a_variable_is_refused(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/elsewhere")
    with pytest.raises(ConfigError, match=r"output=\$SCRATCH/runs: \$SCRATCH stands there as it is"):
        load_config("fedavg", ["output=$SCRATCH/runs"])
    assert load_config("fedavg", ["output=a$b_that_nobody_set"]).output == "a$b_that_nobody_set"


def test_text_is_the_text_that_was_written():
    same = ("no", "on", "010", "2026-13-45", "2024", "a #1", "#1", "a#1")  # no comment begins within a word of a shell
    words = {**dict(zip(same, same, strict=True)), "'a #1'": "a #1"}
    assert {word: load_config("fedavg", [f"output={word}"]).output for word in words} == words
    assert parse_overrides(["a.b=1", "a.c=x: y"]) == {"a": {"b": 1, "c": {"x": "y"}}}
