"""Saved agents: they come back as they were, or are refused with the reason."""

import hashlib
import io
import json
import pickle
import subprocess
import sys

import pytest
import torch

from strata.agents import store
from strata.agents.rllib_policies import LearntPolicies
from strata.engine.errors import AgentCheckpointError
from strata.engine.tree import fingerprint, leaves
from tests.helpers.toys import arms, learn, numbers, settings, virtual

AGENTS = {"arm": arms(), "number": numbers()}


@pytest.fixture(scope="module")
def learners():
    return learn(AGENTS, 5).state()["learners"]


def saved(tmp_path, learners, agents=AGENTS, layout="a+n", **changes):
    store.save(tmp_path / "agents", learners, agents, settings(**changes), layout, "toy")
    return tmp_path / "agents"


def test_they_come_back_to_the_bit_and_act_alike(tmp_path, learners):
    found = store.load(saved(tmp_path, learners), AGENTS, settings(), "a+n")
    assert fingerprint(found) == fingerprint(learners)
    policies = LearntPolicies(AGENTS, settings(), seed=3)
    policies.restore_learners(found)
    assert fingerprint(policies.state()["learners"]) == fingerprint(learners)


def test_saving_replaces_what_was_there(tmp_path, learners):
    folder = saved(tmp_path, learners)
    (folder / "stray").touch()
    saved(tmp_path, learners)
    assert sorted(path.name for path in folder.iterdir()) == ["state.json", "tensors.safetensors"]


def test_virtual_agents_come_back_too(tmp_path):
    agents = virtual(4)
    policies = LearntPolicies(agents, settings(), seed=0)
    policies.act(1, None, {}, {agent: spec.observation_space.sample() for agent, spec in list(agents.items())[:2]})
    policies.learn(1, dict.fromkeys(list(agents)[:2], 1.0))
    learners = policies.state()["learners"]
    found = store.load(saved(tmp_path, learners, agents), agents, settings(), "a+n")
    assert fingerprint(found) == fingerprint(learners)
    with pytest.raises(AgentCheckpointError, match=r"client 2 reinforce, … \(100 in all\) in this") as error:
        store.load(tmp_path / "agents", virtual(100), settings(), "a+n")
    assert len(str(error.value)) < 600, "a hundred agents are listed one by one"


def other_version(folder):
    state = json.loads((folder / "state.json").read_text())
    state["made_for"]["RLlib version"] = "2.11"
    (folder / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize(
    ("agents", "layout", "changes", "reason"),
    [
        (AGENTS, "n+a", {}, r"another layout: a\+n there, n\+a in this run"),
        ({"arm": arms()}, "a+n", {}, "another set of agents: arm ppo, number ppo there, arm ppo in this run"),
        ({**AGENTS, "arm": arms(learner="vdn")}, "a+n", {}, "another set of agents"),
        (AGENTS, "a+n", {"hidden": 8}, "another network: kind equivariant, hidden 16 there"),
        (AGENTS, "a+n", {"network": "mlp"}, "another network"),
        ({**AGENTS, "arm": numbers()}, "a+n", {}, "another observation and action space"),
    ],
)
def test_agents_made_for_something_else_are_refused_with_the_reason(
    tmp_path, learners, agents, layout, changes, reason
):
    folder = saved(tmp_path, learners)
    with pytest.raises(AgentCheckpointError, match=rf"these agents were made for {reason}.*Train agents for it"):
        store.load(folder, agents, settings(**changes), layout)


def test_another_version_of_rllib_is_refused(tmp_path, learners):
    folder = saved(tmp_path, learners)
    other_version(folder)
    with pytest.raises(AgentCheckpointError, match=r"another RLlib version: 2\.11 there, 2"):
        store.load(folder, AGENTS, settings(), "a+n")


def test_another_number_of_clients_is_refused_for_a_network_of_fixed_size_only(tmp_path):
    fixed = {"arm": arms(2)}
    learners = learn(fixed, 0, 2, network="mlp").state()["learners"]
    folder = saved(tmp_path, learners, fixed, network="mlp")
    store.load(folder, fixed, settings(network="mlp"), "a+n")
    with pytest.raises(AgentCheckpointError, match=r"number of clients per round: arm 2 there, arm 5 in this run"):
        store.load(folder, {"arm": arms(5)}, settings(network="mlp"), "a+n")
    learners = learn(fixed, 0, 2).state()["learners"]
    folder = saved(tmp_path, learners, fixed)
    assert fingerprint(store.load(folder, {"arm": arms(5)}, settings(), "a+n")) == fingerprint(learners)


def test_what_is_damaged_missing_or_something_else_is_refused(tmp_path, learners):
    with pytest.raises(AgentCheckpointError, match=r"nowhere: state\.json is missing"):
        store.load(tmp_path / "nowhere", AGENTS, settings(), "a+n")
    folder = saved(tmp_path, learners)
    whole = (folder / "tensors.safetensors").read_bytes()
    (folder / "tensors.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(AgentCheckpointError, match="is damaged: its SHA-256"):
        store.load(folder, AGENTS, settings(), "a+n")
    (folder / "state.json").write_text('{"format": 2, "round": 3, "identity": {}}')
    with pytest.raises(AgentCheckpointError, match=r"it holds no agents\. Make some with"):
        store.load(folder, AGENTS, settings(), "a+n")
    (folder / "state.json").write_text("{")
    with pytest.raises(AgentCheckpointError, match="cannot be read"):
        store.load(folder, AGENTS, settings(), "a+n")


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def unguarded(code):
    return torch.load(io.BytesIO(code), weights_only=False)


def test_nothing_is_pickled(tmp_path, learners):
    folder = saved(tmp_path, learners)
    payload, state = (folder / "tensors.safetensors").read_bytes(), json.loads((folder / "state.json").read_text())
    # A safetensors file is the length of its header, the header as JSON, and the tensors' values without a gap.
    values = 8 + int.from_bytes(payload[:8], "little")
    spans = sorted(tensor["data_offsets"] for tensor in json.loads(payload[8:values]).values())
    assert [0, *(end for _, end in spans)] == [*(start for start, _ in spans), len(payload) - values]
    assert len(spans) == sum(isinstance(leaf, torch.Tensor) for _, leaf in leaves(learners)) > 0
    # Code under the right checksum is refused without being run, whoever's pickle it is.
    ran, archive = tmp_path / "ran", io.BytesIO()
    torch.save(Touch(ran), archive)
    for code, load in ((pickle.dumps(Touch(ran)), pickle.loads), (archive.getvalue(), unguarded)):
        (folder / "tensors.safetensors").write_bytes(code)
        (folder / "state.json").write_text(json.dumps(state | {"tensors_sha256": hashlib.sha256(code).hexdigest()}))
        with pytest.raises(AgentCheckpointError, match="does not fit this version of Strata"):
            store.load(folder, AGENTS, settings(), "a+n")
        assert not ran.exists()
        load(code)
        assert ran.exists(), "there was no code in it"
        ran.unlink()


def test_rules_need_no_rllib():
    code = "import sys, strata.agents.driver, strata.agents.policies; assert 'ray' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
