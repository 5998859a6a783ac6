"""The configuration: layers, shorthands, and what each mistake is told."""

import json
import pickle
import sys

import pytest

from strata.cluster.cli import main
from strata.engine.config.load import config_from_dict, load_config, to_dict
from strata.engine.config.schema import ResourceConfig
from strata.engine.config.written import latest
from strata.engine.errors import ConfigError
from strata.engine.method.find import method_names, shipped_settings

MISTAKES = [
    # typos in keys
    (["permfl", "round=5"], "round: no such key, in the command line. Did you mean rounds?"),
    (["permfl", "clients.num_gpu=1"], "clients.num_gpu: no such key, in the command line. Did you mean num_gpus?"),
    (["permfl", "method.gama=1"], "method.gama: no such key, in the command line. Did you mean gamma?"),
    (["permfl", "teams.formation.nam=random"], "Did you mean name?"),
    (["fedavg", "method.mu=1"], "method.mu: no such key"),
    (["permfl", "tracking.wnadb=offline"], "Did you mean wandb?"),
    (["permfl", "client.count=3"], "client: no such key, in the command line. Did you mean clients?"),
    # names that do not exist
    (["permlf"], "no such method. Did you mean permfl? Found: al2gd"),
    (["my.method.nowhere"], "cannot import my.method.nowhere"),
    (["strata.engine.errors"], "strata.engine.errors must define METHOD"),
    (["permfl", "partition=dirichelt"], "partition.name='dirichelt': expected one of iid, dirichlet"),
    (["permfl", "teams.formation=rnd"], "teams.formation.name='rnd': expected one of sequential, random"),
    (["permfl", "delays=fast"], "delays.name='fast': expected one of none, classes"),
    (["permfl", "runtime=spark"], "runtime='spark': expected one of ray, inprocess"),
    (["permfl", "tracking.wandb=yes"], "tracking.wandb='yes': expected one of"),
    (["permfl", "delays.classes={tablet: 1}"], "tablet"),
    (["permfl", "model=resnet", "runtime=inprocess"], "model.name=resnet: no such model. Found: mclr"),
    (["permfl", "data=no_such_set", "runtime=inprocess"], "no_such_set"),
    # wrong types
    (["permfl", "rounds=many"], "rounds='many': expected a whole number ≥ 1"),
    (["permfl", "rounds=2.5"], "rounds=2.5: expected a whole number"),
    (["permfl", "method.gamma=strong"], "method.gamma='strong': expected a number > 0"),
    (["permfl", "clients=40"], "clients=40: expected keys of its own (count, participation"),
    (["permfl", "rounds={a: 1}"], "rounds={'a': 1}: expected a whole number"),
    (["permfl", 'rounds="3"'], "rounds='3': expected a whole number ≥ 1, in the command line"),
    (["permfl", "rounds=3.0"], "rounds=3.0: expected a whole number"),
    (["permfl", "rounds=true"], "rounds=True: expected a whole number"),
    (["permfl", "method.gamma=true"], "method.gamma=True: expected a number > 0"),
    (["permfl", "method.lambda_team=x"], "method.lambda_team='x': expected a number ≥ 0"),
    (["permfl", "tracking.per_client=maybe"], "tracking.per_client='maybe': expected true or false"),
    (["permfl", "data.root=null"], "data.root=None: expected text"),
    (["permfl", "seeds=3"], "seeds=3: expected a list, in the command line"),
    (["permfl", "model.hidden=[8,1.5]"], "model.hidden.1=1.5: expected a whole number ≥ 1"),
    (["permfl", "model.options=3"], "model.options=3: expected keys and values"),
    (["permfl", "delays.classes={laptop: many}"], "delays.classes.laptop='many': expected a number"),
    (["permfl", "teams=null"], "teams=None: expected keys of its own (count"),
    (["permfl", "clients_per_actor=some"], "clients_per_actor='some': expected auto or a whole number ≥ 1"),
    (["permfl", "clients_per_actor=0"], "clients_per_actor=0: expected auto or a whole number ≥ 1"),
    # impossible values
    (["permfl", "rounds=0"], "rounds=0 is out of range: expected ≥ 1"),
    (["permfl", "clients.participation=1.5"], "clients.participation=1.5 is out of range: expected > 0 and ≤ 1"),
    (["permfl", "clients.num_cpus=0"], "clients.num_cpus=0 is out of range: expected > 0"),
    (["permfl", "clients.num_gpus=-1"], "clients.num_gpus=-1 is out of range: expected ≥ 0"),
    (["permfl", "data.test_fraction=1"], "data.test_fraction=1 is out of range: expected > 0 and < 1"),
    (["permfl", "teams.count=41"], "teams.count=41 is out of range: with clients.count=40, expected ≥ 1 and ≤ 40"),
    (["permfl", "clients.mode=deadline"], "clients.deadline_s=0: clients.mode=deadline needs a deadline > 0"),
    (["permfl", "seeds=[1,1]"], "every seed may be given once"),
    (["permfl", "seeds=[1,-1]"], "seeds=-1 is out of range: expected ≥ 0"),
    (["permfl", "method.eta=2"], "makes team models diverge: expected < 2"),
    (["fedavg", "method.epochs=0"], "method.epochs=0 and method.steps=0: one of the two must be ≥ 1"),
    (["permfl", "delays.availability=1.1"], "delays.availability=1.1 is out of range"),
    (["permfl", "method.gamma=.nan"], "method.gamma=nan is out of range"),
    (["permfl", "clients.classes={laptop: {num_cpus: 0}}"], "clients.classes.laptop.num_cpus=0 is out of range"),
    (["permfl", "clients.classes={toaster: {num_cpus: 1}}", "runtime=ray"], "clients.classes.toaster: no client is"),
    (["permfl", "clients.count=100000", "runtime=inprocess"], "100000"),
    (["permfl", "clients.num_gpus=1.5"], "clients.num_gpus=1.5 is out of range: expected a fraction ≤ 1, or a whole"),
    (["permfl", "teams.num_gpus=1.5"], "teams.num_gpus=1.5 is out of range: expected a fraction ≤ 1, or a whole"),
    (["permfl", "server.num_gpus=2.5"], "server.num_gpus=2.5 is out of range: expected a fraction ≤ 1, or a whole"),
    (["permfl", "delays.team_latency_s=.inf"], "delays.team_latency_s=inf is out of range"),
    (["permfl", "clients.classes.laptop=3"], "clients.classes.laptop=3: expected keys of its own (num_cpus, num_gpus)"),
    (["permfl", "clients.classes.pc.num_cpu=3"], "pc.num_cpu: no such key, in the command line. Did you mean num_cpus"),
    (["permfl", "tracking.tags=[\"${foo}\"]"], "tracking.tags=['${foo}']: expected a plain value"),
    (["permfl", "tracking.project=${foo}"], "tracking.project='${foo}': expected a plain value"),
    (["permfl", "data.root=???"], "data.root='???': expected a plain value"),
    (["algorithm=.x"], "algorithm=.x: expected a name or a dotted path"),
    # words that are not settings, files that are not there
    (["permfl", "rounds"], "'rounds': expected key=value"),
    (["permfl", "=5"], "'=5': expected key=value"),
    (["permfl", "a..b=5"], "'a..b=5': expected key=value"),
    (["permfl", "data={a"], "the value cannot be read"),
    (["permfl", "clients.count=3", "clients=2"], "clients=2: keys below clients were given before"),
    (["permfl", "rounds=1", "rounds.x=2"], "rounds was given a value of its own before"),
    (["permfl", "rounds=5", "rounds=6"], "rounds: it is given twice, by rounds=5 and by rounds=6. Give it once."),
    (["rounds=5", "rounds=6"], "rounds: it is given twice, by rounds=5 and by rounds=6"),
    (["permfl", "data=mnist", "data.name=emnist"], "data.name: it is given twice, by data=mnist and by data.name=emn"),
    (["permfl", "clients={count: 4}", "clients.count=3"], "clients.count: it is given twice, by clients={count: 4}"),
    (["permfl", "clients.count=3", "clients={count: 4}"], "clients.count: it is given twice, by clients.count=3"),
    (["permfl", "clients.count=3", "clients={mode: sync}"], "keys below clients were given before, by clients.count=3"),
    (["permfl", "resume=runs/x"], "resume=runs/x: it is no setting, and stands in place of the method: `strata run"),
    (["rounds=3", "resume=runs/x"], "resume=runs/x: it is no setting, and stands in place of the method"),
    # a colon without a blank behind it
    (["permfl", "delays.classes={raspberry_pi_4:1,laptop:3}"], "line. YAML needs a blank after the colon: rasp"),
    (["permfl", "clients.classes={laptop:3}"], "command line. YAML needs a blank after the colon: laptop: 3."),
    (["permfl", "model={name:mlp}"], "YAML needs a blank after the colon: name: mlp."),
    (["permfl", "clients=count:3"], "YAML needs a blank after the colon: count: 3."),
    (["nowhere.yaml"], "nowhere.yaml: no such file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_each_mistake_gets_its_message_and_nothing_starts(arguments, message, capsys, monkeypatch, tmp_path):
    import ray

    def must_not_start(*args, **options):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", must_not_start)
    arguments = [*arguments, f"output={tmp_path}"] if len(arguments) > 1 or "." not in arguments[0] else arguments
    code = main(["run", *arguments])
    out, err = capsys.readouterr()
    text = " ".join((out + err).split())
    assert code == 1
    assert " ".join(message.split()) in text
    assert "Traceback" not in text


@pytest.mark.filterwarnings("ignore::strata.engine.errors.StrataWarning")  # what their files say, and theorems do not
def test_a_setting_that_ships_with_strata_is_run_by_its_name():
    released, plain = load_config("permfl_released", ["method.alpha=0.02"]), load_config("permfl")
    assert (released.algorithm, released.method.gamma, released.method.lambda_t) == ("permfl", 5, 5)
    assert (released.method.alpha, released.method.local_steps) == (0.02, plain.method.local_steps)
    assert (released.clients, released.teams) == (plain.clients, plain.teams)


@pytest.mark.filterwarnings("ignore::strata.engine.errors.StrataWarning")
@pytest.mark.parametrize("name", sorted(shipped_settings()))
def test_every_named_setting_is_whole_and_says_what_it_is(name):
    path = shipped_settings()[name]
    assert path.read_text(encoding="utf8").startswith("# ")
    assert load_config(name).algorithm in method_names()
    assert name not in method_names()


def test_there_are_at_least_thirty_mistakes():
    assert len(MISTAKES) >= 30


def test_later_layers_win(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("algorithm: permfl\nrounds: 7\nmethod:\n  gamma: 1.7\ndata: synthetic\n")
    config = load_config(str(path), ["method.gamma=1.9"])
    assert (config.rounds, config.method.gamma, config.data.name) == (7, 1.9, "synthetic")
    assert config.method.team_rounds == 10  # from the method's own YAML


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("algorithm: permfl\nmethod:\n  gama: 1\n")
    with pytest.raises(ConfigError, match=r"method.gama: no such key, in .*my.yaml"):
        load_config(str(path))
    path.write_text("rounds: many\n")
    with pytest.raises(ConfigError, match=r"rounds='many': expected a whole number ≥ 1, in .*my.yaml"):
        load_config(str(path), ["rounds=3"])
    path.write_text("rounds: 1\nrounds: 2\n")
    with pytest.raises(ConfigError, match=r"my.yaml: not valid YAML: the key 'rounds' is given twice"):
        load_config(str(path))
    path.write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match="expected keys and values, found a list"):
        load_config(str(path))
    path.write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(str(path))


def test_groups_have_a_shorthand():
    config = load_config("permfl", ["data=mnist", "data.limit=100", "partition.alpha=1", "partition=dirichlet"])
    assert (config.data.name, config.data.limit) == ("mnist", 100)
    assert (config.partition.name, config.partition.alpha) == ("dirichlet", 1.0)
    assert load_config("permfl", ["teams.formation=random"]).teams.formation.name == "random"
    later = load_config("permfl", ["data.limit=100", "data=mnist", "data=synthetic"]).data
    assert (later.name, later.limit) == ("synthetic", 100)


def test_numbers_in_any_spelling():
    config = load_config("permfl", ["method.alpha=1e-3", "rounds=3", "method.lambda_team=null"])
    assert (config.method.alpha, config.rounds, config.method.lambda_team) == (0.001, 3, None)


def test_a_number_may_be_a_name_and_a_whole_number_is_a_number():
    config = load_config(
        "permfl", ["tracking.name=2024", "tracking.tags=[7,a]", "model.architecture=0", "clients.participation=1"]
    )
    assert (config.tracking.name, config.tracking.tags, config.model.architecture) == ("2024", ["7", "a"], "0")
    assert type(config.clients.participation) is float


def test_a_configuration_is_pickled_and_comes_back_from_plain_values():
    config = load_config("pfedlora", ["clients.classes.laptop.num_cpus=2", "model.family=[mlp, {name: cnn, width: 2}]"])
    assert pickle.loads(pickle.dumps(config)) == config
    assert config_from_dict(json.loads(json.dumps(to_dict(config))), "a saved run") == config
    assert config.clients.classes == {"laptop": ResourceConfig(num_cpus=2.0)}


def test_a_setting_without_a_default_is_refused(tmp_path, monkeypatch):
    (tmp_path / "bare.py").write_text(
        "import dataclasses\nimport strata.algorithms.fedavg as f\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\nclass Config(f.FedAvgConfig):\n    needed: int\n"
        "class Bare(f.FedAvg):\n    Config = Config\nMETHOD = Bare\n"
    )
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").touch()
    (tmp_path / "bare.py").rename(package / "bare.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"algorithm=theirs.bare: .*'needed'.* Expected a default for every setting"):
        load_config("theirs.bare")
    sys.modules.pop("theirs.bare")


def test_a_method_of_ones_own_by_dotted_path(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import strata.algorithms.fedavg as f\nclass Mine(f.FedAvg):\n    pass\nMETHOD = Mine\n"
    )
    package = tmp_path / "ours"
    package.mkdir()
    (package / "__init__.py").touch()
    (tmp_path / "mine.py").rename(package / "mine.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = load_config("ours.mine", ["rounds=2"])
    assert config.method_class.__name__ == "Mine"
    sys.modules.pop("ours.mine")


def test_free_dictionaries_take_any_key():
    config = load_config("permfl", ["delays.classes={laptop: 1, phone_mid: 3}"])
    assert to_dict(config)["delays"]["classes"] == {"laptop": 1.0, "phone_mid": 3.0}


@pytest.mark.parametrize("output", ["", "''", '"  "'])
def test_a_folder_without_a_name_is_none(output):
    with pytest.raises(ConfigError, match=r"output='.*': expected the name of a folder; \. is the one that you stand"):
        load_config("fedavg", [f"output={output}"])
    assert load_config("fedavg", ["output=."]).output == "."


def test_a_group_with_nothing_below_it_is_said_to_be_empty(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("algorithm: fedavg\nclients:\n")
    with pytest.raises(ConfigError, match=r"clients=None: .*my\.yaml\. Nothing stands below clients: write keys there"):
        load_config(str(path))
    path.write_text("algorithm: fedavg\nclients:\n  count:3\n")
    with pytest.raises(ConfigError, match=r"my\.yaml\. YAML needs a blank after the colon: count: 3\."):
        load_config(str(path))


def test_layers_may_say_the_same_and_the_latest_words_are_left():
    assert load_config("fedavg", ["rounds=5", "rounds=6"]).rounds == 6
    assert latest(["rounds=5", "data=mnist", "a.b=1", "rounds=6", "data.name=emnist"]) == [
        "a.b=1",
        "rounds=6",
        "data.name=emnist",
    ]
    assert latest(["a.b=1", "a={c: 1}", "a.d=2"]) == ["a={c: 1}", "a.d=2"]
