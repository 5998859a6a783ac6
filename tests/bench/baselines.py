"""All baselines and the four methods in one table: ``python -m tests.bench.baselines``.

Each block of the table is a data set, a model and a partition. All methods of a block have the same clients, rows and
delays, and about as many minibatch steps a client: a hundred rounds of two epochs, or twenty rounds of five team rounds
where there are teams. Runs that are done in the folder are not made again, and those that were stopped go on.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import strata
from strata.cluster.humanise import humanise_bytes, humanise_flops, humanise_seconds
from strata.cluster.report.comparison import Comparison
from strata.cluster.report.markdown import table
from strata.cluster.report.results import Contestant, read_run
from strata.cluster.sinks.display import mean_std

DATA = ("fashion_mnist", "cifar10")
MODELS = {"mclr": {"model.name": "mclr"}, "cnn": {"model.name": "cnn", "model.width": 0.25}}
PARTITIONS = {
    "labels": {"partition.name": "labels", "partition.labels_per_client": 2},
    "dirichlet": {"partition.name": "dirichlet", "partition.alpha": 0.3},
}
SHARED = {
    "runtime": "inprocess",
    "data.limit": 8000,
    "clients.count": 40,
    "clients.participation": 0.25,
    "delays.name": "loguniform",
    "delays.spread": 10.0,
    "delays.median_flops_per_s": 1e9,
    "delays.availability": -1.0,  # HAPFL's own setting has another
    "evaluation.every": 0,
}
FLAT = {"rounds": 100}
TIERED = {"rounds": 20, "teams.count": 4, "method.team_rounds": 5, "method.batch_size": 32}
EPOCHS = {"method.epochs": 2, "method.batch_size": 32}
PLAIN = {**EPOCHS, "method.lr": 0.05}
MOMENTUM = {**EPOCHS, "method.lr": 0.005, "method.momentum": 0.9}
PERMFL = {**TIERED, "method.local_steps": 10, "method.alpha": 0.05}


@dataclass(frozen=True)
class Row:
    """A method as the table has it; ``models``: in whose blocks, by the names of :data:`MODELS`."""

    label: str
    source: str
    settings: Mapping[str, object]
    models: Sequence[str] = tuple(MODELS)
    own: Mapping[str, object] = field(default_factory=dict)
    """Its own model, in place of the block's."""


ROWS = (
    Row("FedAvg, last model", "fedavg", {**FLAT, **PLAIN, "evaluation.personal": "last"}),
    Row("FedAvg, fine-tuned", "fedavg", {**FLAT, **PLAIN, "evaluation.personal": "tuned"}),
    Row("FedProx, last model", "fedprox", {**FLAT, **PLAIN, "evaluation.personal": "last"}),
    Row("SCAFFOLD, last model", "scaffold", {**FLAT, **PLAIN, "evaluation.personal": "last"}),
    Row("FedAvgM, last model", "fedavgm", {**FLAT, **PLAIN, "evaluation.personal": "last"}),
    Row("FedAdam, last model", "fedadam", {**FLAT, **PLAIN, "evaluation.personal": "last"}),
    Row("FedYogi, last model", "fedyogi", {**FLAT, **PLAIN, "evaluation.personal": "last"}),
    Row("Ditto", "ditto", {**FLAT, **PLAIN}),
    Row("APFL", "apfl", {**FLAT, **PLAIN}),
    Row("Per-FedAvg", "per_fedavg", {**FLAT, **PLAIN}),
    Row("pFedMe", "pfedme", {**FLAT, "method.local_steps": 10, "method.lr": 0.05, "method.personal_lr": 0.05}),
    Row("FedRep", "fedrep", {**FLAT, **PLAIN, "method.momentum": 0, "method.head_epochs": 2}, ("cnn",)),
    Row("AL2GD", "al2gd", {**FLAT, "method.steps": 10, "method.batch_size": 32, "method.lr": 0.05}),
    Row("DemLearn", "demlearn", {**FLAT, **PLAIN}),
    Row(
        "h-SGD, last model",
        "hsgd",
        {**TIERED, "method.steps": 10, "method.lr": 0.05, "evaluation.personal": "last"},
    ),
    Row("PerMFL", "permfl", PERMFL),
    Row("PerMFL, balanced", "permfl_balanced", PERMFL),
    Row("HAPFL", "hapfl", {**FLAT, **PLAIN}, ("cnn",)),
    Row("pFedLoRA", "pfedlora", {**FLAT, **MOMENTUM}, ("cnn",), {"model.name": "cnn_five", "model.width": 0.25}),
    Row("PerFedRLNAS", "perfedrlnas", {**FLAT, **EPOCHS}, ("cnn",), {"model.name": "mobilenetv3_small"}),
)


def blocks() -> Iterator[tuple[str, Mapping[str, object]]]:
    """Names and settings of the blocks: every data set with every model and partition."""
    for model, partition, data in itertools.product(MODELS, PARTITIONS, DATA):
        yield f"{data} {model} {partition}", {"data.name": data, **MODELS[model], **PARTITIONS[partition]}


def run_dir(row: Row, settings: Mapping[str, object], folder: Path) -> Path:
    """The folder of the finished run of a row: as it is, gone on with, or made now."""
    found = sorted(path.parent for path in folder.glob("*/config.yaml"))
    if found:
        run = strata.load_run(found[-1])
        return run.run_dir if run.finished else strata.run(resume=run.run_dir, quiet=True).run_dir
    return strata.run(
        row.source, {**SHARED, **settings, **row.own, **row.settings}, output=str(folder), quiet=True
    ).run_dir


def contestant(row: Row, settings: Mapping[str, object], folder: Path, seeds: Sequence[int]) -> Contestant:
    """The runs of a row, a seed each."""
    label = row.source + row.label.partition(",")[2].replace(" ", "-")
    runs = [run_dir(row, {**settings, "seed": seed}, folder / f"{label}-{seed}") for seed in seeds]
    return Contestant(row.label, [read_run(run) for run in runs])


def merged(made: Mapping[str, Sequence[Contestant]]) -> str:
    """The blocks of a model beside each other: PM / GM / worst decile / hurt, and what the last block cost."""
    rows = []
    for several in zip(*made.values(), strict=True):
        one = several[-1]
        cost = [humanise_seconds(one.mean("virtual_s")), humanise_bytes(one.mean("bytes_total"))]
        rows.append([one.label, *map(_figures, several), *cost, humanise_flops(one.mean("flops_total"))])
    return table(["PM / GM / worst decile / hurt, %", *made, "virtual time", "bytes", "FLOPs"], rows)


def _figures(one: Contestant) -> str:
    others = [one.last(f"{one.personal}.{name}") for name in ("worst_decile", "hurt")]
    kinds = [one.headlines("PM"), one.headlines("GM"), *others]
    return " / ".join(mean_std(values).removesuffix(" %") for values in kinds)


def main(words: Sequence[str] | None = None) -> None:
    """Make the runs and print the table, a block at a time; also into ``table.md`` of the folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.baselines", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    every = [name for name, _ in blocks()]
    parser.add_argument("--blocks", nargs="+", default=every, choices=every, metavar="'DATA MODEL PARTITION'")
    labels = [row.label for row in ROWS]
    parser.add_argument("--rows", nargs="+", default=labels, choices=labels, metavar="LABEL")
    parser.add_argument("--output", type=Path, default=Path("runs/baselines"))
    given = parser.parse_args(words)
    parts, made = [], dict[str, list[Contestant]]()
    for name, settings in blocks():
        if name not in given.blocks:
            continue
        data, model, partition = name.split()
        found = made[name] = []
        for row in (row for row in ROWS if model in row.models and row.label in given.rows):
            found.append(contestant(row, settings, given.output / "-".join(name.split()), given.seeds))
            print(f"{name}: {row.label}", flush=True)
        compared = Comparison(found, None, name, "")
        rows = [
            [*cells, mean_std(one.last(f"{one.personal}.hurt"))]
            for cells, one in zip(compared.rows, found, strict=True)
        ]
        parts += [f"{data}, {model}, {partition}:", table([*compared.headings, "hurt"], rows)]
        print(parts[-1], flush=True)
    for model in MODELS:
        side_by_side = {name: found for name, found in made.items() if name.split()[1] == model}
        if len(side_by_side) > 1:
            parts.append(merged(side_by_side))
            print(parts[-1], flush=True)
    (given.output / "table.md").write_text("\n\n".join(parts) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
