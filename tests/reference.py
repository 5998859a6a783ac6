"""The reference of Strata's public names as HTML, made of their docstrings: ``make docs``. Needs the extra ``docs``."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pdoc

EXPORTING = ("strata", "strata.engine")
"""Modules whose names are imported when they are used; what they export is named in ``__all__``."""

MODULES = (*EXPORTING, "strata.engine.data.memory", "strata.envs.plain", "strata.envs.flat", "strata.envs.multi_agent")
NEEDING = {"strata.envs.parallel": "pettingzoo"}
"""Modules that are left out where a library of an extra is not installed."""


def write(folder: Path) -> None:
    """Write the pages into a folder; ``index.html`` is the first."""
    for name in EXPORTING:
        _fill(import_module(name))
    pdoc.render.configure(
        docformat="google", show_source=False, footer_text=f"Strata {import_module('strata').__version__}"
    )
    pdoc.pdoc(*MODULES, *(name for name, library in NEEDING.items() if find_spec(library)), output_directory=folder)


def _fill(module: ModuleType) -> None:
    """Import all that a module exports, because pdoc looks at nothing else."""
    for name in module.__all__:
        setattr(module, name, getattr(module, name))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(f"reference  {sys.argv[1]}/index.html")
