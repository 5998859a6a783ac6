"""What a run says of itself before its first round."""

import numpy as np

from strata.engine.build import build_world
from strata.engine.config.foreword import foreword
from strata.engine.data.coverage import coverage
from strata.engine.data.dataset import ClientData, Dataset, FederatedData
from tests.helpers.small import small


def said(method, *words):
    config = small(method, "partition=iid", "data.limit=3000", *words)
    return list(foreword(config, build_world(config)))


def test_a_plain_run_says_nothing():
    assert said("fedavg") == []
    assert said("permfl") == []


def test_each_choice_of_an_evaluation_is_a_line():
    assert said("fedavg", "evaluation.clients=2", "evaluation.unseen=0.25", "evaluation.personal=last") == [
        "evaluation.clients=2: accuracies are those of so many of the 6 clients, drawn anew each time",
        "evaluation.unseen=0.25: 2 of 8 clients never train; they are scored apart (unseen GM, PM), and are in no "
        "other number",
        "evaluation.personal=last: PM is the model that each client last trained, and the global model before its "
        "first call",
    ]
    (line,) = said("fedavg", "evaluation.personal=tuned", "evaluation.tuned.epochs=2")
    assert "fine-tuned for 2 epochs" in line


def test_attacks_and_bytes_that_are_reckoned_are_said():
    assert said("fedavg", "attacks.share=0.25", "attacks.kind=label_flip", "transport.up=[secure]") == [
        "attacks.share=0.25: 2 of 8 clients attack (label_flip); they are evaluated like all others",
        "transport.up: the bytes of secure aggregation are reckoned, and nothing is masked: results are those without "
        "it",
    ]


def test_validation_on_training_rows_is_said():
    (line,) = said("hapfl", "agents.policy=none")
    assert line.startswith("data.validation_fraction=0: no rows are held out, so the validation accuracies that hapfl")
    assert said("hapfl", "agents.policy=none", "data.validation_fraction=0.1") == []


def rows(*numbers):
    return np.array(numbers, np.int64)


def test_who_is_tested_on_other_classes_is_counted():
    y = np.array([0, 1, 2, 0, 1, 2])
    clients = [
        ClientData(rows(0, 1), rows(3)),  # never tested on 1
        ClientData(rows(0), rows(3, 4)),  # never trains on 1
        ClientData(rows(1), rows(5)),  # never tested on 1, never trains on 2
        ClientData(rows(0, 1), rows(3, 4)),
    ]
    data = FederatedData(Dataset("made", np.zeros((6, 1), np.float32), y, 3), clients)
    found = coverage(data)
    assert np.argwhere(found.untested).tolist() == [[0, 1], [2, 1]]
    assert np.argwhere(found.untrained).tolist() == [[1, 1], [2, 2]]
    trained, tested = "are never tested on classes they train on", "are tested on classes they never train on"
    assert found.told() == f"2 of 4 clients {trained}; 2 of 4 clients {tested}"
    assert coverage(data, first=1).told() == f"1 of the first 1 clients {trained}"
    assert coverage(FederatedData(data.dataset, clients[3:])).told() == ""


def test_a_cluster_that_is_not_joined_is_said():
    (line,) = said("fedavg", "ray.address=auto")
    assert line.startswith("ray.address=auto: with runtime=inprocess all is done in this process, and no cluster is")
