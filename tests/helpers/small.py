"""Federations small enough for a test, on real images."""

from collections.abc import Sequence

from strata.engine.config.load import load_config
from strata.engine.config.schema import RunConfig
from strata.engine.config.written import latest
from strata.engine.federation import Federation

SMALL = (
    "rounds=3",
    "data.limit=600",
    "clients.count=8",
    "teams.count=2",
    "partition=labels",
    "partition.labels_per_client=2",
    "delays=classes",
    "tracking.wandb=disabled",
    "ray.num_cpus=2",
    "training.batch_clients=1",
)
NOISY = ("delays=pareto", "delays.dropout=0.2", "delays.availability=0.8", "agents.policy=none")
HALF = ("clients.participation=0.5",)
BUFFERED = ("clients.mode=async", "clients.concurrency=5", "clients.buffer=2")
TWO_MODELS = "model.family=[{name: mlp, hidden: [32]}, {name: mlp, hidden: [48, 32]}]"
HETEROGENEOUS = (TWO_MODELS, "method.batch_size=16", "method.lr=0.05", "method.momentum=0")
MOBILE = "model={name: mobilenetv3_small, options: {stage2.depth: [1, 2], stage3.depth: [1], stage3.width: [24]}}"
VISION = "model={name: vit_small, options: {stage2.depth: [2], stage2.width: [16], stage3.depth: [2]}}"
EVERYBODY = ("clients.participation=1", "evaluation.every=1", "method.batch_size=16", "method.cosine_rounds=0")
SUPERNET = ("method.lr=0.005", "method.epochs=2", *EVERYBODY)
FEW_STEPS = {
    "permfl": ("method.team_rounds=3", "method.local_steps=2", "method.batch_size=16"),
    "tests.helpers.regrouping": ("method.team_rounds=3", "method.steps=2", "method.batch_size=16"),
    "tests.helpers.regrouping:Remembering": ("method.team_rounds=2", "method.steps=1", "method.batch_size=16"),
    "hsgd": ("method.team_rounds=3", "method.steps=2", "method.batch_size=16"),
    "fedavg": ("method.batch_size=16",),
    "fedprox": ("method.batch_size=16",),
    "scaffold": ("method.batch_size=16",),
    "ditto": ("method.batch_size=16",),
    "al2gd": ("method.batch_size=16", "method.p_network=0.3", "method.p_cluster=0.4", "method.gamma=5"),
    "demlearn": ("method.batch_size=16",),
    "apfl": ("method.batch_size=16", "method.alpha_lr=0.05"),
    "per_fedavg": ("method.batch_size=16",),
    "fedrep": ("model=mlp", "model.hidden=[32]", "method.batch_size=16", "method.head_epochs=2", "method.lr=0.05"),
    "hapfl": ("method.batch_size=16", "clients.participation=1", "evaluation.every=1"),
    "standalone": HETEROGENEOUS,
    "lg_fedavg": HETEROGENEOUS,
    "pfedlora": HETEROGENEOUS,
    "fml": HETEROGENEOUS,
    "fedkd": HETEROGENEOUS,
    "fedproto": HETEROGENEOUS,
    "perfedrlnas": (MOBILE, *SUPERNET),
    "fedbabu": ("model=mlp", "model.hidden=[32]", "method.optimizer=sgd", "method.lr=0.05", *EVERYBODY),
    "fedtp": (VISION, *SUPERNET),
}


def small(method: str, *overrides: str, runtime: str = "inprocess") -> RunConfig:
    """A run of a few seconds: 8 clients, 600 images of Fashion-MNIST."""
    return load_config(method, small_overrides(method, *overrides, runtime=runtime))


def small_overrides(method: str, *overrides: str, runtime: str = "inprocess") -> Sequence[str]:
    """The overrides behind :func:`small`."""
    return latest([*SMALL, *FEW_STEPS.get(method, ()), f"runtime={runtime}", *overrides])


def rewind_and_replay(federation, folder):
    """Save after a round, go on, rewind and go on again, to the same end.

    Some clients must be called again after the checkpoint, and some for the first time.
    """
    federation.run_round()
    saved, called = federation.save(folder), set(federation.rounds.snapshot().clients)
    later = {int(client) for record in federation for client in record.calls.client}
    expected = federation.fingerprint()
    assert later & called
    assert later - called
    federation.restore(saved)
    assert set(federation.rounds.snapshot().clients) == called
    list(federation)
    assert federation.fingerprint() == expected


def played(method, *words):
    """A small run from beginning to end: its fingerprint before, its records, and its fingerprint after."""
    with Federation(small(method, *words)) as federation:
        return federation.fingerprint(), list(federation), federation.fingerprint()


def resume_in_flight(config, folder, rounds, in_flight):
    """Save after some rounds, go on, rewind and go on, and resume elsewhere and go on: to the same end, round by round.

    ``in_flight`` says of the snapshot that was saved whether what is to be in flight is.
    """
    with Federation(config) as federation:
        for _ in range(rounds):
            federation.run_round()
        saved = federation.save(folder)
        assert in_flight(federation.rounds.snapshot())
        expected = list(federation), federation.fingerprint()
        federation.restore(saved)
        list(federation)
        assert federation.fingerprint() == expected[1]
    with Federation(config) as federation:
        federation.restore(saved)
        federation.rounds.evaluate()  # before what was in flight is called again
        found = list(federation), federation.fingerprint()
    assert found[1] == expected[1]
    assert [(record.calls, record.scores) for record in found[0]] == [(r.calls, r.scores) for r in expected[0]]
