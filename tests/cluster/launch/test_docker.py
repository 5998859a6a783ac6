"""The Dockerfile, read line by line: stages, users, versions, and what may not be in it."""

import fnmatch
import re
import sys

import pytest

from strata.cluster.cli import main
from tests.policy.source import PACKAGES, ROOT

SHELL_FROM_THE_NET = re.compile(r"(curl|wget)[^\n]*\|\s*(ba)?sh")


def instructions(text):
    """``(instruction, rest)`` of each, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "Dockerfile"
    assert main(["launch", "docker", "--output", str(path)]) == 0
    return path.read_text(), path.with_name("Dockerfile.dockerignore").read_text().splitlines()


def test_a_build_argument_chooses_between_the_last_two_stages(written):
    lines = instructions(written[0])
    stages = [rest for name, rest in lines if name == "FROM"]
    assert stages == ["python:${PYTHON}-slim AS base", "base AS cpu", "base AS cuda", "${DEVICE}"]
    arguments = [rest for name, rest in lines[: [name for name, _ in lines].index("FROM")] if name == "ARG"]
    assert arguments == [f"PYTHON={sys.version_info.major}.{sys.version_info.minor}", "DEVICE=cpu"]
    cuda = lines.index(("FROM", "base AS cuda"))
    assert lines[cuda + 1] == ("ENV", "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility")


def test_the_image_is_nobodys_root_has_the_tested_versions_and_opens_no_port(written):
    lines = instructions(written[0])
    assert [rest for name, rest in lines if name == "USER"][-1] == "1000"
    assert lines.index(("USER", "1000")) > lines.index(("FROM", "${DEVICE}"))
    installs = [rest for name, rest in lines if name == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in line for line in installs)
    assert "EXPOSE" not in {name for name, _ in lines}
    assert any(name == "ENV" and "RAY_AUTH_MODE=token" in rest for name, rest in lines)
    assert not SHELL_FROM_THE_NET.search(written[0])
    assert not re.search(r"https?://|TOKEN|API_KEY|PASSWORD", written[0])


def test_a_shell_from_the_net_is_seen():
    assert SHELL_FROM_THE_NET.search("RUN curl -s https://x | sh")


def test_the_context_is_the_source_and_nothing_else(written):
    kept = [line[1:] for line in written[1] if line.startswith("!")]
    assert "*" in written[1]
    needed = [*PACKAGES, "setup.py", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"]
    assert sorted(kept) == sorted(needed)
    assert all((ROOT / name).exists() for name in kept)
    assert not any(fnmatch.fnmatch(name, pattern) for pattern in kept for name in (".git", ".venv", "runs", "tests"))
