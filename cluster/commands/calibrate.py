"""``strata calibrate``: how fast this machine trains, as a device class for ``delays=classes``."""

import math
import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from strata.cluster.humanise import humanise_flops
from strata.cluster.places import require_file
from strata.cluster.terminal import console
from strata.engine.clock.devices import Profile, device_classes
from strata.engine.errors import StrataError
from strata.engine.suggest import closest

if TYPE_CHECKING:
    from strata.cluster.calibration import Speed

NAME = "calibrate"
HELP = (
    "Measure how many FLOP/s this machine trains with (an mlp and a cnn, batches of 32, one thread), and write them as "
    "a device class that delays.devices reads. Takes some seconds; leave the machine alone meanwhile."
)
EXAMPLE = "strata calibrate --name my_laptop --like laptop"


def add(parser: ArgumentParser) -> None:
    """Declare the class, its link, and where it goes."""
    parser.add_argument("--name", required=True, help="what to call the class, e.g. my_laptop")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("devices.yaml"),
        help="file to extend (default: devices.yaml); a new one begins with the shipped classes, to mix them",
    )
    parser.add_argument(
        "--like", default="laptop", help="class whose link it has, which is not measured (default: laptop)"
    )
    parser.add_argument(
        "--down", type=float, metavar="BYTES_PER_S", help="rate of what it receives, instead of the class's"
    )
    parser.add_argument("--up", type=float, metavar="BYTES_PER_S", help="rate of what it sends, instead of the class's")
    parser.add_argument("--latency", type=float, metavar="S", help="round trip of a call, instead of the class's")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions, of which the median counts (default: 5)")
    parser.add_argument("--gpu", action="store_true", help="measure the GPU that torch finds, instead of a processor")
    parser.add_argument("--force", action="store_true", help="write in place of a class of that name")


def act(arguments: Namespace) -> int:
    """Measure, print the table, write the class, and say what to type next; returns 0."""
    from strata.cluster.calibration import measure, overall, write_class

    like = _checked(arguments)
    device, machine = _place(arguments.gpu)
    speeds, shown = list(measure(arguments.repeats, device)), console()
    shown.print(_table(speeds, machine))
    profile = replace(like, device=arguments.name, flops_per_s=overall(speeds), **_link(arguments))
    write_class(arguments.output, profile, _source(arguments, speeds, machine))
    shown.print(f"{arguments.name}: {humanise_flops(profile.flops_per_s)}/s, written to {arguments.output}. Next:")
    following = (
        f"strata run fedavg delays=classes delays.devices={arguments.output} 'delays.classes={{{arguments.name}: 1}}'"
    )
    shown.print(following, markup=False, soft_wrap=True)
    return 0


def _checked(arguments: Namespace) -> Profile:
    """The class whose link the new one has. What is wrong with the arguments is said before anything is measured."""
    from strata.cluster.calibration import check_name, known_classes

    check_name(arguments.name)
    if arguments.repeats < 1:
        raise StrataError(f"--repeats {arguments.repeats}: expected at least 1.")
    for option, value, fits in _numbers(arguments):
        if value is not None and not fits:
            raise StrataError(f"--{option} {value:g}: expected a rate > 0, or seconds ≥ 0 for --latency.")
    require_file("--output", arguments.output)
    known = known_classes(arguments.output)
    if arguments.name in known and not arguments.force:
        raise StrataError(
            f"--name {arguments.name}: {arguments.output} has such a class, or begins with it as one that is shipped. "
            "Take another name, or write in its place with --force."
        )
    links = {**device_classes(""), **known}
    if arguments.like not in links:
        near = closest(arguments.like, list(links))
        raise StrataError(f"--like {arguments.like}: no such device class.{near} Found: {', '.join(links)}.")
    return links[arguments.like]


def _numbers(arguments: Namespace) -> Iterator[tuple[str, float | None, bool]]:
    """Each number of the link as an option: its name, its value, and whether it is in range where it is given."""
    yield "down", arguments.down, (arguments.down or 0) > 0
    yield "up", arguments.up, (arguments.up or 0) > 0
    yield "latency", arguments.latency, 0 <= (arguments.latency or 0) < math.inf


def _link(arguments: Namespace) -> dict[str, Any]:
    """What was given of the link, by the profile's names."""
    given = {"down_bytes_per_s": arguments.down, "up_bytes_per_s": arguments.up, "latency_s": arguments.latency}
    return {name: value for name, value in given.items() if value is not None}


def _place(gpu: bool) -> tuple[str, str]:
    """Torch's name of where to train, and the machine's in words."""
    import torch

    if not gpu:
        return "cpu", f"a thread of {platform.processor() or platform.machine()}"
    if not torch.cuda.is_available():
        raise StrataError("--gpu: torch finds no CUDA device here. Leave it out to measure the processor.")
    return "cuda", torch.cuda.get_device_name()


def _table(speeds: Sequence["Speed"], machine: str) -> Table:
    table = Table(
        "model", "a step", "slowest", "median", "fastest", title=f"training on {machine}", title_justify="left"
    )
    for speed in speeds:
        rates = min(speed.flops_per_s), speed.median, max(speed.flops_per_s)
        table.add_row(
            speed.model, humanise_flops(speed.flops_per_step), *(f"{humanise_flops(rate)}/s" for rate in rates)
        )
    return table


def _source(arguments: Namespace, speeds: Sequence["Speed"], machine: str) -> str:
    """Where the figures of the class come from, for whoever reads the file."""
    each = ", ".join(f"{speed.model} {humanise_flops(speed.median)}/s" for speed in speeds)
    link = "network as given" if len(_link(arguments)) == 3 else f"network as {arguments.like}, but for what was given"
    link = link if _link(arguments) else f"network as {arguments.like}"
    return f"strata calibrate on {machine}, medians of {arguments.repeats}: {each}; {link}"
