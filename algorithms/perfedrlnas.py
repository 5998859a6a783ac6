"""PerFedRLNAS: every client's architecture is searched by a virtual agent, inside one supernet that all clients train.

J. Yao and B. Li, "PerFedRLNAS: One-for-All Personalized Federated Neural Architecture Search", AAAI 2024, and its
released configuration.

Symbols
    W           supernet weights: those of the largest architecture, of which every other is a slice
    a_i         architecture of client i: one option index per decision slot
    mask_i      the slice of a_i: prefixes of channels, centres of kernels, the first blocks of a stage
    w_i         client i's subnet after its local epochs, its personal model (PM)
    Δ_i         w_i − W at the slice;  n_i: client i's training samples
    m(a, B)     memory of a training step of a with batch size B (:mod:`strata.engine.models.supernets.cost`)
    M_i         memory budget of client i ~ U(low, high)

Per round
    1. agents    client i's agent samples a_i ~ π_i  (:mod:`strata.algorithms.controls.searching`)
    2. server    sends the slice of W, and nothing else of it
    3. client    B ← batch size that fits M_i;  w_i ← E epochs from the slice;  acc_i on the client's own test data
    4. server    W ← W + Σ_i (n_i/Σn) Δ_i ⊙ mask_i;  neg_i = share of tensors with ⟨Δ_i, ΔW⟩ < 0 at the slice
    5. agents    REINFORCE with R_i = acc_i − λ_time (τ_i − min τ) − λ_neg neg_i against the client's own past; or, with
                 ``reward=published``, with r_i = R_i − b, b the mean of all clients' best accuracies

Without agents (``agents.policy=none``) everybody trains ``fixed``: FedAvg on the largest, the smallest or a random
architecture. ``agents.policy=random`` draws a new one for every call. The search space is ``model.name``, narrowed by
``model.options``; with one option per slot the method is FedAvg on that architecture, to the bit.

Deviations
    - The reward: see :mod:`strata.algorithms.controls.searching`, which says what the published one lacks.
    - Fusion takes in batch norm's statistics as it does parameters; the released code fuses parameters only.
    - A client has one memory budget for the whole run; the released code draws one anew for every call.
    - Before GM is evaluated on a client, the statistics of batch norm are computed anew on ``recalibration_batches``
      batches of that client's training rows: those in W are a mixture of all subnets', and fit none. It costs no
      virtual time, as no evaluation does.
    - A client whose last call did not fit is evaluated with its last subnet, or with the slice of W of that
      architecture, recalibrated in the same way, if that is right more often on its validation rows (its training
      rows where ``data.validation_fraction`` is 0).
Choices of ours
    - The batch rule (halve where over the budget, double below 75 % of it) runs to its end within a call, from
      ``batch_size`` on, between ``least_batch`` and ``largest_batch``; so a call's cost depends on no earlier one.
    - A client that not even the least batch fits does not train: it uploads no weights, and its accuracy counts as 0.
    - Memory is computed, not measured: weights, gradients, optimiser state and activations. Budgets are drawn from the
      client's id and ``memory_seed``; those of the YAML are U(2, 8) GiB scaled by the size of the small spaces.
    - Testing after training costs no virtual time, as no evaluation does.
    - neg_i looks at all tensors that travel, batch norm's statistics included; the aggregate holds client i's own part.
    - PM is the subnet as the client last trained it; before its first call, GM. GM is ``fixed``, cut from W: of FedAvg
      on an architecture the model that it averages, and else W as a whole.
Asynchronous rounds: with ``clients.mode=async`` step 4 is made of whoever has reported, and an agent learns when its
client's report is in. The released configuration makes it of five reports, drops what is staler than 10, and weighs by
    n_i ((cos_i + 1) / 2 + 3 · 10 / (s_i + 10))        (s_i: staleness)
instead of n_i; that is ``weights=asynchronous``. That cos_i is the cosine of Δ_i with Σ_j (n_j/Σn) Δ_j ⊙ mask_j at its
slice is ours: it is not said of what.
Rounds are synchronous unless ``clients.mode`` says otherwise. Everything above treats a report by itself, whenever it
arrives, but for min τ.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from strata.algorithms.controls.searching import (
    ACCURACY,
    ARCHITECTURE,
    BATCH_SIZE,
    BEST_ACCURACY,
    BUDGET_MIB,
    CONFLICT,
    MEMORY_MIB,
    SearchControl,
    written,
)
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import FlatAlgorithm
from strata.engine.method.length import Length
from strata.engine.method.local import LocalTraining
from strata.engine.method.messages import (
    Assignment,
    ClientInfo,
    ClientResult,
    ClientStep,
    Context,
    Received,
    require_cohort,
)
from strata.engine.method.requests import Evaluate, Evaluation, Recalibrate, Recalibrated, Request, Trained
from strata.engine.models.base import Buildable
from strata.engine.models.spec import subnet_of
from strata.engine.models.supernets.cost import cost, fit
from strata.engine.models.supernets.sharing import conflict, cosine, delta, extract, fuse
from strata.engine.models.supernets.space import KINDS, RESOLUTION, Architecture
from strata.engine.models.supernets.subnet import SubnetSpec, supernet_params, supernet_spec
from strata.engine.options import option
from strata.engine.params import Params
from strata.engine.seeding import generator

MIB, GIB = 2**20, 2**30
STALENESS_BOUND, STALENESS_WEIGHT = 10, 3  # [released configuration]


@dataclass(frozen=True)
class PerFedRLNASConfig(LocalTraining):
    """Settings of PerFedRLNAS."""

    fixed: str = option(
        "",
        "architecture where no agents decide, and of the global model that is evaluated: largest, smallest, random, "
        "random:N or option indices; empty: model.architecture",
    )
    lambda_time: float = option(0.001, "λ_time: price of a second of latency, in accuracy", ge=0)
    lambda_neg: float = option(0.1, "λ_neg: price of conflicting with the aggregate in all tensors, in accuracy", ge=0)
    reward: Literal["own", "published"] = option(
        "own", "what agents learn from: accuracy against their own client's past, or against all clients' best"
    )
    baseline_calls: int = option(
        8, "reward=own: last calls of a client whose mean is its baseline; 0: the published baseline", ge=0
    )
    scale_memory: float = option(
        0.9,
        "reward=own: share of the past in the running mean of squared advantages that scales them; 0: not scaled",
        ge=0,
        lt=1,
    )
    shared: float = option(
        0.6, "reward=own: step size of the logits that all agents share, as a multiple of their own; 0: none", ge=0
    )
    recalibration_batches: int = option(
        8,
        "batches of a client's training rows that give batch norm's statistics before a slice of the supernet is "
        "evaluated there; 0: the supernet's own statistics",
        ge=0,
    )
    memory_gib: list[float] = option([], "low and high of the clients' memory budgets; empty: no limit", gt=0)
    memory_seed: int = option(0, "the budgets are drawn from it and the client's id", ge=0)
    weights: Literal["samples", "asynchronous"] = option(
        "samples", "of uploads: by their samples, or also by staleness and by how far they agree with the others"
    )
    least_batch: int = option(8, "no batch is halved below this; a client that it does not fit cannot train", ge=1)
    largest_batch: int = option(0, "no batch is doubled beyond this; 0: batch_size", ge=0)

    def validate(self, path: str) -> None:
        """Budgets need two ends, and batch sizes must be in order."""
        super().validate(path)
        if self.memory_gib and (len(self.memory_gib) != 2 or self.memory_gib[0] > self.memory_gib[1]):
            raise ConfigError(f"{path}memory_gib={list(self.memory_gib)}: expected [low, high], or nothing.")
        most = self.largest_batch or self.batch_size
        if not self.least_batch <= self.batch_size <= most:
            raise ConfigError(
                f"{path}batch_size={self.batch_size} is out of range: expected ≥ {path}least_batch={self.least_batch} "
                f"and ≤ {path}largest_batch={most}."
            )


@dataclass(frozen=True)
class Global:
    """Global state: W."""

    w: Params


@dataclass(frozen=True)
class Personal:
    """Private state of a client: w_i, None before the first training; whether its last call did not fit its memory."""

    subnet: Params | None = None
    architecture: Architecture = ()
    best_accuracy: float = 0.0
    passed_over: bool = False


@dataclass(frozen=True)
class Down:
    """Server → client: the slice of W, its architecture, and how long to train."""

    subnet: Params
    architecture: Architecture
    length: Length


@dataclass(frozen=True)
class Up:
    """Client → server: w_i, empty where it did not fit; its accuracy, its memory and its batch size (0: none fits)."""

    subnet: Params
    accuracy: float
    memory_bytes: int
    batch_size: int


class PerFedRLNAS(FlatAlgorithm[Global, Personal, Down, Up]):
    """PerFedRLNAS: clients train subnets of one supernet, which agents choose."""

    Config = PerFedRLNASConfig
    refuses = dict.fromkeys(("regression", "multi_label"), "its agents are paid in accuracy")
    Control = SearchControl
    has_personal_model = True
    has_choices = True
    config: PerFedRLNASConfig

    def __init__(self, config: PerFedRLNASConfig, model: Buildable) -> None:
        """Take the search space from the model; refuse one that has none."""
        super().__init__(config, model)
        chosen = subnet_of(model, "PerFedRLNAS")
        self.supernet = supernet_spec(chosen.space, chosen.input_shape, chosen.classes)
        self.fixed = chosen.space.named(config.fixed) if config.fixed else chosen.architecture

    def spec(self, architecture: Architecture) -> SubnetSpec:
        """An architecture of the space, to be built."""
        return replace(self.supernet, architecture=architecture)

    def init_global(self, seed: int) -> Global:
        """Fresh supernet weights."""
        return Global(supernet_params(self.supernet.space, self.supernet.input_shape, self.supernet.classes, seed))

    def init_client(self, info: ClientInfo, seed: int) -> Personal:
        """No personal model before the first call."""
        return Personal()

    def default_assignment(self, info: ClientInfo) -> Assignment:
        """What a client does when no agent decides: train the fixed architecture."""
        return {ARCHITECTURE: written(self.fixed), **super().default_assignment(info)}

    def to_client(self, g: Global, info: ClientInfo, assignment: Assignment) -> Down:
        """The subnet of the assigned architecture, cut out of W."""
        spec = self.spec(self.supernet.space.named(str(assignment[ARCHITECTURE])))
        return Down(extract(g.w, spec), spec.architecture, Length.of(assignment))

    def client_step(self, info: ClientInfo, state: Personal, down: Down, context: Context) -> ClientStep[Personal, Up]:
        """Train the subnet with the batch size that fits, and test it."""
        spec = self.spec(down.architecture)
        budget = self.budget_bytes(info)
        batch = self.fitting_batch(spec, info, budget)
        used = self.memory_bytes(spec, info, batch or self.config.least_batch)
        up, kept = Up({}, 0.0, used, 0), replace(state, passed_over=True)
        if batch:
            request = self.config.train_in(context.round, spec, down.subnet, down.length, batch)
            trained: Trained = yield request
            tested: Evaluation = yield Evaluate(spec, trained.params)
            up = Up(trained.params, tested.accuracy if tested.samples else 0.0, used, batch)
            kept = Personal(trained.params, down.architecture, max(state.best_accuracy, up.accuracy))
        metrics = {
            **self.choices(down.architecture),
            ACCURACY: up.accuracy,
            BEST_ACCURACY: kept.best_accuracy,
            BATCH_SIZE: float(batch),
            MEMORY_MIB: used / MIB,
            **({BUDGET_MIB: budget / MIB} if self.config.memory_gib else {}),
        }
        return ClientResult(up, kept, metrics)

    @classmethod
    def is_choice(cls, metric: str) -> bool:
        """Whether a metric is named like a slot of a search space."""
        return metric == RESOLUTION or metric.rpartition(".")[2] in KINDS

    def choices(self, architecture: Architecture) -> dict[str, float]:
        """The options of an architecture by slot, where there was a choice."""
        space = self.supernet.space
        chosen = space.values(architecture)
        return {slot.name: float(chosen[slot.name]) for slot in space.slots if len(slot.options) > 1}

    def budget_bytes(self, info: ClientInfo) -> float:
        """The memory budget M_i of a client, in bytes; infinite where none is configured."""
        if not self.config.memory_gib:
            return float("inf")
        low, high = self.config.memory_gib
        return generator(self.config.memory_seed, "memory", info.id).uniform(low, high) * GIB

    def memory_bytes(self, spec: SubnetSpec, info: ClientInfo, batch: int) -> int:
        """The memory m(a, B) of a training step on a client, in bytes; one with fewer samples trains on all it has."""
        return cost(spec, min(batch, info.train_samples), self.config.optimizer_values).memory_bytes

    def fitting_batch(self, spec: SubnetSpec, info: ClientInfo, budget: float) -> int:
        """The batch size of a call, 0 where none fits; see :func:`fit`."""
        config = self.config
        return fit(
            lambda batch: self.memory_bytes(spec, info, batch),
            budget,
            config.batch_size,
            config.least_batch,
            config.largest_batch or config.batch_size,
        )

    def global_step(self, g: Global, ups: Sequence[Received[Up]], context: Context) -> Global:
        """W ← W + Σ_i (n_i/Σn) Δ_i ⊙ mask_i, over those that trained."""
        require_cohort("PerFedRLNAS", ups)
        trained = [up for up in ups if up.message.subnet]
        if not trained:
            return g
        subnets, samples = [up.message.subnet for up in trained], [float(up.samples) for up in trained]
        if self.config.weights == "samples":
            return Global(fuse(g.w, subnets, samples))
        plain = delta(g.w, fuse(g.w, subnets, samples))
        agreement = [cosine(delta(g.w, subnet), plain) for subnet in subnets]
        return Global(fuse(g.w, subnets, asynchronous_weights(samples, agreement, [up.staleness for up in trained])))

    def assess(self, before: Global, ups: Sequence[Received[Up]], after: Global) -> Mapping[int, Mapping[str, float]]:
        """The share neg_i of each sender's tensors that point away from the aggregate."""
        change = {name: after.w[name] - value for name, value in before.w.items()}
        return {
            up.sender: {CONFLICT: conflict(delta(before.w, up.message.subnet), change)}
            for up in ups
            if up.message.subnet
        }

    def personal_model(self, state: Personal) -> Params | None:
        """The client's subnet w_i as it last trained it."""
        return state.subnet

    def global_model(self, g: Global) -> Params:
        """The supernet weights W, of which evaluation takes a slice."""
        return g.w

    def client_evaluate(
        self, info: ClientInfo, state: Personal | None, shared: Mapping[str, Params]
    ) -> Generator[Request, Any, Mapping[str, Evaluation]]:
        """GM is the fixed architecture, cut from W; PM the client's last subnet, or GM before its first training.

        After a call that did not fit, PM is the slice of W instead where that is better; see the module's docstring.
        """
        spec = self.spec(self.fixed)
        gm = yield Evaluate(spec, (yield from self.sliced(shared["GM"], spec)))
        if state is None or state.subnet is None:
            return {"GM": gm, "PM": gm}
        spec, subnet = self.spec(state.architecture), state.subnet
        if state.passed_over:
            other = yield from self.sliced(shared["GM"], spec)
            own = yield Evaluate(spec, subnet, "validation")
            if (yield Evaluate(spec, other, "validation")).correct > own.correct:
                subnet = other
        return {"GM": gm, "PM": (yield Evaluate(spec, subnet))}

    def sliced(self, w: Params, spec: SubnetSpec) -> Generator[Request, Any, Params]:
        """A subnet as W has it, with batch norm's statistics of the client that is asked, if so configured."""
        part = extract(w, spec)
        if not self.config.recalibration_batches:
            return part
        request = Recalibrate(spec, part, self.config.batch_size, self.config.recalibration_batches)
        answer: Recalibrated = yield request
        return answer.params


def asynchronous_weights(samples: Sequence[float], agreement: Sequence[float], staleness: Sequence[int]) -> list[float]:
    """n ((cos + 1) / 2 + 3 · 10 / (s + 10)) of each upload, not normalised; ``agreement`` are the cosines."""
    return [
        n * ((cos + 1) / 2 + STALENESS_WEIGHT * STALENESS_BOUND / (s + STALENESS_BOUND))
        for n, cos, s in zip(samples, agreement, staleness, strict=True)
    ]


METHOD = PerFedRLNAS
