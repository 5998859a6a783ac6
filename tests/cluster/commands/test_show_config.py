"""``strata config``: all of a configuration, or parts of it."""

from strata.cluster.cli import main


def test_config_prints_a_group_or_a_key_alone(capsys):
    assert main(["config", "permfl", "clients", "method.gamma", "clients.count=7"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("clients:  # ")
    assert rest[0].startswith("  count: 7  # ")
    assert [line.partition("  # ")[0] for line in rest[-2:]] == ["method:", "  gamma: 1.5"]
    assert main(["config", "permfl", "client"]) == 1
    assert "client: no such key or group. Did you mean clients?" in capsys.readouterr().err
