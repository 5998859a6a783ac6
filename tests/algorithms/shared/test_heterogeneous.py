"""What the methods have in common whose clients differ in their architectures."""

import pytest

from strata.algorithms import fedkd, fml
from strata.engine.build import build_world
from strata.engine.config.load import load_config
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.models.base import init_params
from strata.engine.tree import fingerprint
from tests.helpers.arithmetic.families import MCLR, PAIR
from tests.helpers.arithmetic.linear import spec
from tests.helpers.small import small

METHODS = ["standalone", "lg_fedavg", "pfedlora", "fml", "fedkd", "fedproto"]


def test_the_shared_architecture_is_the_smallest_or_the_one_named():
    assert fml.FML(fml.FMLConfig(shared=0), PAIR).shared == spec()
    assert fedkd.FedKD(fedkd.FedKDConfig(shared=1), PAIR).shared == MCLR
    with pytest.raises(ConfigError, match=r"method.shared=2 is out of range: the family has 2"):
        fml.FML(fml.FMLConfig(shared=2), PAIR)


@pytest.mark.parametrize("name", METHODS)
def test_clients_differ_in_architecture_and_start_from_the_same_models(name):
    world = build_world(small(name))
    sizes, prints = [], []
    for info in world.infos[:4]:
        model = world.algorithm.personal_model(world.algorithm.init_client(info, 5))
        sizes.append(sum(value.numel() for value in model.values()))
        prints.append(fingerprint(model))
    first, second = 784 * 32 + 32 + 32 * 10 + 10, 784 * 48 + 48 + 48 * 32 + 32 + 32 * 10 + 10
    assert sizes == [first, second, first, second]
    reference = build_world(small("standalone"))
    assert prints[0] == fingerprint(init_params(reference.algorithm.family.of(0), 5))
    assert world.algorithm.global_model(world.algorithm.init_global(1)) is None


@pytest.mark.parametrize("name", METHODS)
def test_a_single_architecture_is_a_family_of_one(name):
    words = ("model.family=[]", "model.name=mlp", "model.hidden=[16]", "rounds=1")
    with Federation(small(name, *words)) as federation:
        (record,) = federation
    assert set(record.scores) == {"PM"}


def test_methods_with_one_architecture_refuse_a_family():
    for word in ("model=cnn_five", "model.family=[mclr, dnn]"):
        with pytest.raises(ConfigError, match="fedavg gives every client the same architecture"):
            load_config("fedavg", [word])
    assert load_config("fedavg", ["model=cnn_five_3"]).model.name == "cnn_five_3"


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_ends_in_the_same_bits(name, tmp_path):
    words = ("rounds=4", "clients.participation=0.5")
    with Federation(small(name, *words)) as whole:
        list(whole)
    with Federation(small(name, *words)) as first:
        first.run_round()
        first.run_round()
        path = first.save(tmp_path)
    with Federation(small(name, *words)) as second:
        second.restore(path)
        list(second)
    assert second.fingerprint() == whole.fingerprint() != first.fingerprint()
