"""What bash and zsh offer after some words, asked of the shells themselves."""

import contextlib
import shutil
import subprocess

import pytest

from strata.cluster.cli import COMMANDS, main
from strata.engine.method.find import method_names

BASH = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(({count} - 1))
compopt() {{ echo nospace; }}
_strata
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

ZSH = """
compdef() {{ }}
source {script}
compadd() {{
    local -a found
    while (($#)); do
        case $1 in
            --) shift; found=("$@"); break ;;
            -a) found=(${{(P)2}}); break ;;
            -S) shift 2 ;;
        esac
    done
    print -l -- ${{(M)found:#${{PREFIX}}*}}
}}
compset() {{ PREFIX=${{PREFIX#*=}}; }}
_files() {{ }}
words=({words})
CURRENT={count}
PREFIX=${{words[CURRENT]}}
_strata
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The two scripts, as the command prints them."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in ("bash", "zsh"):
        with (folder / shell).open("w") as file, contextlib.redirect_stdout(file):
            assert main(["completion", shell]) == 0
    return {shell: folder / shell for shell in ("bash", "zsh")}


@pytest.fixture(params=["bash", "zsh"])
def offered(request, scripts):
    """Asks a shell what may follow words, of which the last is being typed."""
    shell = request.param
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")

    def ask(*words):
        if shell == "bash":  # which takes key=value for three words
            words = [part for word in words for part in _split(word)]
        quoted = " ".join(f"'{word}'" for word in words)
        text = (BASH if shell == "bash" else ZSH).format(script=scripts[shell], words=quoted, count=len(words))
        done = subprocess.run([shell, *(["-f"] if shell == "zsh" else ["--norc"]), "-c", text], capture_output=True)
        assert not done.stderr, done.stderr.decode()
        return {word.removesuffix("=") for word in done.stdout.decode().split()} - {"nospace"}

    return ask


def _split(word):
    key, equals, value = word.partition("=")
    return [key, equals, value] if value else [key, equals] if equals else [word]


def test_commands(offered):
    assert offered("strata", "") == {command.NAME for command in COMMANDS} | {"--help", "--version"}
    assert offered("strata", "co") == {"compare", "config", "completion"}


def test_names_of_methods_and_settings(offered):
    found = offered("strata", "run", "")
    assert set(method_names()) < found
    assert {"permfl_released", "fedadam"} < found
    assert offered("strata", "run", "perfed") == {"perfedrlnas", "perfedrlnas_asynchronous", "perfedrlnas_paper"}
    assert not offered("strata", "fetch", "perm")


def test_options(offered):
    assert offered("strata", "run", "permfl", "--p") == {"--profile"}
    assert {"--against", "--report", "--wall"} < offered("strata", "compare", "--")
    assert "--against" not in offered("strata", "run", "--")


def test_keys_of_a_run_and_those_of_its_method(offered):
    assert offered("strata", "run", "permfl", "clients.dead") == {"clients.deadline_s"}
    assert offered("strata", "run", "permfl", "part") == {"partition"} | {
        f"partition.{name}"
        for name in (
            "name",
            "alpha",
            "labels_per_client",
            "sizes",
            "skew",
            "min_samples",
            "path",
            "partitioner",
            "options",
        )
    }
    assert "method.lambda_team" in offered("strata", "run", "permfl", "method.")
    assert "method.lambda_team" not in offered("strata", "run", "fedavg", "method.")
    assert offered("strata", "run", "fedprox", "rounds=3", "method.m") >= {"method.mu", "method.momentum"}


def test_values_of_keys_that_take_a_few_words(offered):
    assert offered("strata", "run", "permfl", "clients.mode=") == {"sync", "deadline", "async", "given"}
    assert offered("strata", "run", "permfl", "data=cif") == {"cifar10", "cifar100"}
    assert offered("strata", "run", "hapfl", "agents.policy=opt") == {"optimum"}
    assert offered("strata", "run", "permfl", "transport.feedback=") == {"true", "false"}
    assert not offered("strata", "run", "permfl", "rounds=")


def test_what_other_commands_take(offered):
    assert offered("strata", "fetch", "mnist", "cif") == {"cifar10", "cifar100"}
    assert offered("strata", "completion", "") == {"bash", "zsh"}
    assert offered("strata", "launch", "") == {"slurm", "kuberay", "ray-up", "docker"}
    assert {"--nodes", "--cpus"} < offered("strata", "launch", "slurm", "--")
    assert "permfl" in offered("strata", "launch", "slurm", "per")


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "fish"])
    assert "choose from" in capsys.readouterr().err
