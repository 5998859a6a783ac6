"""``strata check``: whether a method does what the engine rests on, check by check in words."""

from argparse import ArgumentParser, Namespace

from strata.cluster.terminal import console

NAME = "check"
HELP = "Check a method of your own: equal bits, untouched inputs, checkpoints, costs, and that it learns."
EXAMPLE = "strata check mypackage.mymethod method.lr=0.1"


def add(parser: ArgumentParser) -> None:
    """Declare the method, the setting it is checked in, and Ray."""
    parser.add_argument("source", metavar="METHOD|FILE.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--ray", action="store_true", help="also compare a run on Ray with the one in-process")


def act(arguments: Namespace) -> int:
    """Print a line for each check as it ends; returns 0 where all hold, else 1."""
    from strata.cluster.conformance.examination import examine
    from strata.cluster.conformance.subject import Subject

    shown = console()
    findings = []
    for found in examine(Subject(arguments.source, arguments.overrides), arguments.ray):
        findings.append(found)
        said = f": {found.said}" if found.said else ""
        shown.print(f"{found.status:8}  {found.what}{said}", markup=False, soft_wrap=True)
    holding = sum(found.status == "holds" for found in findings)
    shown.print(f"{arguments.source}: {holding} of {len(findings)} checks hold", markup=False, soft_wrap=True)
    return int(holding < len(findings))
