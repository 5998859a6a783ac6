"""The rounds of a run as one pandas table, on which everything in a report is computed.

Its index is the round; its columns, all float64:

``rounds``
    done so far: the round's number.
``virtual_s``, ``round_s``, ``straggling_s``
    the virtual clock after the round, its length, and its straggling.
``invited``, ``completed``, ``late``, ``lost``
    client calls by what became of them.
``bytes``, ``flops``; ``bytes_total``, ``flops_total``
    of the round, and since the start of the run: bytes of both tiers and directions, FLOPs of the clients' computation.
``train_loss``
    NaN where no call completed.
``PM.accuracy`` …
    accuracy, loss, mean, std and worst_decile of each kind of model, hurt, macro_f1, macro_f1_mean and further measures
    (``PM.rmse``, ``PM.auc``, one's own) where there are some; NaN in rounds without
    evaluation. Kinds of clients that never train are ``unseen PM`` and so on.
``metrics.NAME``
    a method's own metrics; NaN where a round has none of that name.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from strata.cluster.sinks.jsonl import read_metrics
from strata.cluster.sinks.sink import Plain

BYTES = ("bytes_client_down", "bytes_client_up", "bytes_team_down", "bytes_team_up")
NUMBERS = (
    "virtual_s", "round_s", "straggling_s", "invited", "completed", "late", "lost", *BYTES, "flops", "train_loss",
)  # fmt: skip
METRIC = "metrics."


def read_rounds(path: Path) -> pd.DataFrame:
    """The rounds of a ``metrics.jsonl`` as a table; see the module.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: for lines that are not the rounds of a run.
    """
    return rounds_frame(read_metrics(path))


def rounds_frame(rounds: Iterable[Plain]) -> pd.DataFrame:
    """A table of rounds that are given as ``metrics.jsonl`` has them; their client calls do not enter.

    Counts become float64: exact up to 9e15, and the sum of a long run of large models cannot overflow.
    """
    rows = {plain["round"]: _row(plain) for plain in rounds}
    frame = pd.DataFrame.from_dict(rows, orient="index", dtype=float).rename_axis("round").sort_index()
    if frame.empty:
        return frame
    frame["bytes"] = frame[list(BYTES)].sum(axis=1)
    totals = frame[["bytes", "flops"]].cumsum().add_suffix("_total")
    return frame.join(totals)


def _row(plain: Plain) -> dict[str, float | None]:
    scores = {
        f"{kind}.{name}": value
        for kind, own in plain["scores"].items()
        for name, value in {**own, **own.get("measures", {})}.items()
        if name not in ("clients", "headline", "measures")
    }
    metrics = {f"{METRIC}{name}": value for name, value in plain["metrics"].items()}
    return {"rounds": plain["round"], **{name: plain[name] for name in NUMBERS}, **scores, **metrics}
