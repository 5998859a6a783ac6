"""Each check of single steps fails for a method that does what it is about, and says what to do."""

import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from strata.algorithms.fedavg import FedAvg, FedAvgConfig, Global, Up
from strata.algorithms.hsgd import Hsgd
from strata.cluster.conformance import single_steps
from strata.cluster.conformance.examination import STEPS
from strata.cluster.conformance.subject import Subject
from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError, StrataError
from strata.engine.method.messages import ClientResult, Received
from strata.engine.method.requests import Evaluate
from tests.helpers.toys import Toy

FEW = ("rounds=3", "data.limit=300", "clients.count=4", "method.batch_size=16")


def moved(params, by):
    return {name: value + by for name, value in params.items()}


class Changed(FedAvg):
    """FedAvg whose clients upload something else."""

    def changed(self, result, state, context):
        raise NotImplementedError

    def client_step(self, info, state, down, context):
        result = yield from super().client_step(info, state, down, context)
        return self.changed(result, state, context)


class Idle(FedAvg):
    def global_step(self, g, ups, context):
        return g


@dataclass(frozen=True)
class Silent(FedAvgConfig):
    extra: float = 1.0


class Unsaid(FedAvg):
    Config = Silent


class Unseeded(Changed):
    def changed(self, result, state, context):
        return replace(result, up=Up(moved(result.up.w, float(np.random.default_rng().normal()))))


class Ambient(Changed):
    def changed(self, result, state, context):
        return replace(result, up=Up(moved(result.up.w, random.random())))


class Numpys(Ambient):
    def changed(self, result, state, context):
        return replace(result, up=Up(moved(result.up.w, np.random.rand())))  # noqa: NPY002 what is not to be done


class Torchs(Ambient):
    def changed(self, result, state, context):
        return replace(result, up=Up(moved(result.up.w, torch.rand(()))))


class Moving(Changed):
    def changed(self, result, state, context):
        torch.rand(3)
        return result


class Remembering(Changed):
    calls = 0

    def changed(self, result, state, context):
        self.calls += 1
        return replace(result, up=Up(moved(result.up.w, self.calls)))


class Overwriting(FedAvg):
    def client_step(self, info, state, down, context):
        result = yield from super().client_step(info, state, down, context)
        next(iter(down.w.values())).add_(1.0)
        return result


class Adding(FedAvg):
    def global_step(self, g, ups, context):
        next(iter(ups[0].message.w.values())).add_(1.0)
        return super().global_step(g, ups, context)


@dataclass
class Editable:
    w: dict


class Thawed(Changed):
    def changed(self, result, state, context):
        return replace(result, up=Editable(result.up.w))


@dataclass(frozen=True)
class Hollow:
    w: dict


class Empty(Changed):
    def changed(self, result, state, context):
        return replace(result, up=Hollow({}))

    def global_step(self, g, ups, context):
        return Global(moved(g.w, 1.0))


class Homeless(Changed):
    """Keeps a record whose class no checkpoint knows."""

    stateless = False

    def changed(self, result, state, context):
        return replace(result, state=Received(0, 1, None))


class Hospitable(FedAvg):
    def global_step(self, g, ups, context):
        return super().global_step(g, ups, context) if ups else g


class Crashing(FedAvg):
    def global_step(self, g, ups, context):
        return Global(moved(ups[0].message.w, 0.0))


class Unscored(FedAvg):
    def global_model(self, g):
        return None


class Impersonal(FedAvg):
    has_personal_model = True

    def client_evaluate(self, info, state, shared):
        return {"GM": (yield Evaluate(self.model, shared["GM"]))}


class Short(FedAvg):
    def client_evaluate(self, info, state, shared):
        found = yield Evaluate(self.model, shared["GM"])
        return {"GM": replace(found, samples=found.samples - 1)}


class Taking(FedAvg):
    """Makes a model of whatever it is given."""

    def init_global(self, seed):
        return Global({"w": torch.zeros(1)})


class Familiar(FedAvg):
    takes_families = True

    def personal_model(self, state):
        return {}


class Choosing(Changed):
    @classmethod
    def is_choice(cls, metric):
        return metric == "depth"

    def changed(self, result, state, context):
        return replace(result, metrics={"depth": 2.0})


class Shuffling(Hsgd):
    def regroup(self, g, topology, context):
        return {0: [1], 1: [0, 2]}


class Probing(Toy):
    probes = True


class Unprobed(FedAvg):
    Control = Probing

    def probe(self, g):
        return None


class Whole(FedAvg):
    def client_step(self, info, state, down, context):
        return ClientResult(Up(down.w), None)


class Pairing(FedAvg):
    def client_step(self, info, state, down, context):
        result = yield from super().client_step(info, state, down, context)
        return result.up, result.state


class Counting(FedAvg):
    """Scales by how many uploads there are, which a merged one does not say by its being there."""

    def global_step(self, g, ups, context):
        return Global(moved(super().global_step(g, ups, context).w, 0.1 * len(ups)))


class Assessing(FedAvg):
    def assess(self, before, ups, after):
        return {up.sender: {"norm": 1.0} for up in ups}


class Choosy(FedAvg):
    def global_step(self, g, ups, context):
        best = max(ups, key=lambda up: float(up.message.w["head.weight"].sum()))
        return super().global_step(g, [best], context)


class Asking(FedAvg):
    def client_step(self, info, state, down, context):
        yield {"train": down.w}


BAD = [
    (Idle, single_steps.makes_a_round, "leaves the global state .* as it was"),
    (Whole, single_steps.makes_a_round, "client_step returned a ClientResult; expected a generator"),
    (Pairing, single_steps.makes_a_round, "client_step ended with a tuple; expected return ClientResult"),
    (
        Asking,
        single_steps.makes_a_round,
        "asked for a dict; expected Train, Gradient, Evaluate, Represent or Recalibrate",
    ),
    (Unsaid, single_steps.has_described_settings, "Silent.extra does not say what it is"),
    (Unseeded, single_steps.repeats_itself, "what client 0 uploads differs from one time to the next"),
    (Ambient, single_steps.draws_from_its_seed_alone, "what client 0 uploads rests on a global random generator"),
    (Numpys, single_steps.draws_from_its_seed_alone, "what client 0 uploads rests on a global random generator"),
    (Torchs, single_steps.draws_from_its_seed_alone, "what client 0 uploads rests on a global random generator"),
    (Moving, single_steps.draws_from_its_seed_alone, "draw from the global generator of torch"),
    (Remembering, single_steps.keeps_nothing_on_itself, "rests on which clients were called before"),
    (Overwriting, single_steps.leaves_what_it_is_given, "the global state is changed by a later step"),
    (Adding, single_steps.leaves_what_it_is_given, "what client 0 uploads is changed by a later step"),
    (Thawed, single_steps.sends_frozen_messages, "what client 0 uploads is a Editable; expected .* frozen"),
    (Empty, single_steps.sends_frozen_messages, "what client 0 uploads carries nothing"),
    (Homeless, single_steps.survives_wire_and_disk, "an instance of Received .* could not be restored"),
    (Hospitable, single_steps.refuses_nobody, "global_step aggregates an empty cohort"),
    (Crashing, single_steps.refuses_nobody, "without uploads global_step raises IndexError"),
    (Unscored, single_steps.evaluates_everybody, "it is scored by nothing"),
    (Impersonal, single_steps.evaluates_everybody, r"is scored by \['GM'\]; expected \['GM', 'PM'\]"),
    (Short, single_steps.evaluates_everybody, "scored on a part of its .* test samples"),
    (Taking, single_steps.takes_families_if_it_says_so, "a family of models is taken though"),
    (Familiar, single_steps.takes_families_if_it_says_so, r"have \[0, 0\] tensors; expected \[4, 6\]"),
    (Choosing, single_steps.reports_choices_if_it_says_so, "has_choices is False, and clients report depth"),
    (Choosy, single_steps.averages_if_it_says_so, "uploads of one mean leave different values"),
    (Counting, single_steps.merges_if_it_says_so, "the mean of two uploads, as one, leaves another state"),
    (Assessing, single_steps.merges_if_it_says_so, "assess looks at uploads one by one"),
    (Shuffling, single_steps.regroups_only_if_it_says_so, "regroup forms teams anew, and is never asked"),
    (Unprobed, single_steps.has_the_probe_that_its_control_wants, "Probing wants probes, and probe gives None"),
]


def subject_of(kind):
    return Subject(f"{__name__}:{kind.__name__}", FEW)


@pytest.fixture(scope="module")
def sound():
    return Subject("fedavg", FEW)


@pytest.mark.parametrize(("kind", "check", "says"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_a_method_that_does_it_is_told_so(kind, check, says):
    with pytest.raises(StrataError, match=says):
        check(subject_of(kind))


def test_every_check_is_seen_to_fail():
    assert {check for _, check, _ in BAD} == {single_steps.makes_a_round, *STEPS}


@pytest.mark.parametrize("check", [single_steps.makes_a_round, *STEPS], ids=lambda check: check.__name__)
def test_fedavg_passes_and_global_generators_are_as_they_were(sound, check):
    with torch_scope(3):
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        assert check(sound) == ""
        assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002


def test_a_setting_in_which_nothing_can_be_checked_is_refused():
    with pytest.raises(ConfigError, match=r"clients\.count=3: expected .* 2 clients in each of 2 teams"):
        Subject("hsgd", ("clients.count=3",))
    with pytest.raises(ConfigError, match=r"rounds=2, .*expected 3 rounds or more"):
        Subject("fedavg", ("rounds=2",))
