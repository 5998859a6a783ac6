"""The names that states have in checkpoints."""

from strata.algorithms.fedavg import FedAvg, Global
from strata.algorithms.fedprox import FedProx
from strata.engine.clock.delays import Timing
from strata.engine.clock.shared_links import Going
from strata.engine.evaluation.personal import Kept
from strata.engine.method.length import Length
from strata.engine.method.situation import Decisions
from strata.engine.models.spec import ModelSpec
from strata.engine.state.archive import Archived
from strata.engine.state.encoding import pack, unpack
from strata.engine.state.snapshot import Aloft, Flying, Saved, Snapshot, Underway
from strata.engine.state.types import state_types
from strata.engine.transport.service import Owing

KINDS = (Snapshot, Saved, Archived, Length, Aloft, Flying, Going, Timing, Underway, Decisions, Kept, Owing)
OWN = {kind.__name__: kind for kind in KINDS}
MODEL = ModelSpec("mclr", (2,), 3, ())


def test_states_are_called_after_the_method_that_defines_them():
    types = state_types(FedAvg(FedAvg.Config(), MODEL))
    assert types["FedAvg.Global"] is Global
    assert {name: kind for name, kind in types.items() if "." not in name} == OWN


def test_a_method_that_is_made_of_another_may_hold_its_states():
    types = state_types(FedProx(FedProx.Config(), MODEL))
    assert types["FedAvg.Global"] is Global
    assert types["FedProx.FedProxConfig"] is FedProx.Config


def test_a_call_on_a_shared_link_comes_back_as_it_was():
    types = state_types(FedAvg(FedAvg.Config(), MODEL))
    going = Going.begun(Timing(0.1, 2.0, 3.0, 4.0)).corrected(Timing(0.1, 2.5, 3.0, 4.0))
    again = unpack(pack(going, types), types)
    assert again == going
    assert type(again.left) is Timing
