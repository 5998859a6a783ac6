"""What is typed otherwise than it is meant, and what is not typed at all."""

import pytest

from strata.cluster.cli import main


@pytest.mark.parametrize(
    ("word", "setting"),
    [("--rounds", "rounds=…"), ("--method.batch-size=16", "method.batch_size=16"), ("--resume", "resume=…")],
)
def test_a_setting_that_is_written_as_an_option_is_told_how_it_is_written(capsys, word, setting):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["run", "fedavg", word, "3"])
    assert (
        f"{word}: no such option. Settings are written key=value, without dashes: {setting};" in capsys.readouterr().err
    )


def test_data_without_a_method_knows_of_no_teams_that_nobody_asked_for(capsys):
    assert main(["data", "clients.count=3", "data.limit=600"]) == 0
    assert "3 clients" in (shown := capsys.readouterr().out)
    assert "team" not in shown
