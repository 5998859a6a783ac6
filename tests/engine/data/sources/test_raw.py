"""What readers share: whose row a sample is, and which samples are the published test split."""

import json

import numpy as np
import pandas as pd
import pytest

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.catalogue import load
from strata.engine.data.sources.raw import client_names, published_flags
from strata.engine.errors import DataError


@pytest.mark.parametrize(
    ("clients", "names"),
    [
        (np.array(["anna", "annika"]), ["anna", "annika"]),
        (np.array([1, 20]), ["1", "20"]),
        (np.array([1.0, 20.5]), ["1.0", "20.5"]),
        (np.array([b"anna", "zoë".encode()]), ["anna", "zoë"]),
        (np.array(["01", 1], object), ["01", "1"]),
    ],
)
def test_clients_are_called_what_stands_there(clients, names):
    found, remarks = client_names(clients, "set")
    assert found.tolist() == names
    assert not remarks.cautions


@pytest.mark.parametrize(
    "clients",
    [
        np.array(["anna", None, "annika"], object),
        np.array(["anna", np.nan, "annika"], object),
        np.array(["anna", " ", "annika"]),
        np.array([1, np.nan, 2]),
    ],
)
def test_samples_without_a_client_are_refused(clients):
    with pytest.raises(DataError, match="set: 1 of 3 samples have no client"):
        client_names(clients, "set")


def test_blanks_at_the_ends_of_names_make_no_client_of_their_own():
    found, remarks = client_names(np.array(["anna", "anna ", "ben"]), "set")
    assert found.tolist() == ["anna", "anna", "ben"]
    assert "3 became 2" in remarks.cautions[0]


WRITERS = {
    "csv": lambda table, path: table.to_csv(path, index=False),
    "parquet": lambda table, path: table.to_parquet(path),
    "jsonl": lambda table, path: path.write_text(
        "\n".join(json.dumps({k: None if v != v else v for k, v in row.items()}) for row in table.to_dict("records"))
    ),
}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_tables_with_a_missing_client_are_refused_and_names_stay_whole(tmp_path, kind):
    who = ["anna", "annika", "ben"] * 8
    table = pd.DataFrame({"a": np.arange(24) / 3, "who": who, "label": ["x", "y"] * 12})
    name = tmp_path / f"t.{kind}"
    WRITERS[kind](table, name)
    assert load(DataConfig(name=str(name), client_column="who"), 1, 0).natural.tolist() == who
    table.loc[3, "who"] = None
    WRITERS[kind](table, name)
    with pytest.raises(DataError, match="1 of 24 samples have no client"):
        load(DataConfig(name=str(name), client_column="who"), 1, 0)


def test_clients_of_a_csv_stand_as_they_are(tmp_path):
    (tmp_path / "t.csv").write_text("who,a,label\n01,0.5,x\n1,1.5,y\n")
    assert load(DataConfig(name=str(tmp_path / "t.csv"), client_column="who"), 1, 0).natural.tolist() == ["01", "1"]


@pytest.mark.parametrize("kind", [np.bool_, np.int64, np.uint8, np.float64])
def test_flags_may_be_of_any_type(kind):
    assert published_flags(np.array([0, 1, 0]).astype(kind), "set").tolist() == [False, True, False]


def test_flags_of_one_kind_alone_are_no_split():
    assert published_flags(np.zeros(3, bool), "set") is None
    assert published_flags(np.ones(3, int), "set") is None


@pytest.mark.parametrize(
    ("test", "odd"), [([0, 2, 1], "2"), ([0, np.nan, 1], "nan"), (["train", "test", "train"], "'train'")]
)
def test_what_is_no_flag_is_refused(test, odd):
    with pytest.raises(DataError, match=rf"test holds {odd}, expected a flag for each row.*numpy\.isin"):
        published_flags(np.array(test), "set")
