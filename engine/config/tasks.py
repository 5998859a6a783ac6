"""What a task does not go with: methods, and settings that are about classes."""

from collections.abc import Iterator

from strata.engine.config.schema import RunConfig
from strata.engine.data.dataset import Dataset
from strata.engine.errors import ConfigError
from strata.engine.evaluation.measures import ACCURACY, MEASURES, headline_of


def require_task(config: RunConfig, dataset: Dataset) -> None:
    """Refuse a method, or a setting, that the task of a data set does not go with.

    Raises:
        ConfigError: with the reason, and what to do.
    """
    for reason in _against(config, dataset):
        raise ConfigError(reason)


def _against(config: RunConfig, dataset: Dataset) -> Iterator[str]:
    task, read = dataset.task, f"{dataset.name} is read for {dataset.task} (data.task)"
    if reason := config.method_class.refuses.get(task):
        yield f"algorithm={config.algorithm}: {read}, and {reason}. Choose another method, such as fedavg or ditto."
    if getattr(config.method, "label_smoothing", 0) and not dataset.one_class:
        yield f"method.label_smoothing={config.method.label_smoothing:g}: {read}, which has no classes. Expected 0."
    for name in config.evaluation.metrics:
        fits = task == "classification" if name == "confusion" else dataset.one_class
        if name == "auc":
            fits = task in ("classification", "multi_label")
        if not fits:
            yield f"evaluation.metrics=[{name}]: {read}, which it is no measure of. Leave {name} out."
    headline = headline_of(task, asked := config.evaluation.headline)
    if asked and asked not in (fitting := [*MEASURES[task], *config.evaluation.own_metrics]):
        yield f"evaluation.headline={asked}: {read}. Expected one of {', '.join(fitting)}."
    if config.stop.accuracy and headline.name != ACCURACY:
        yield (
            f"stop.accuracy={config.stop.accuracy:g}: {read}, and models are compared by {headline.title}. Set "
            f"stop.target, which ends a run once that has {'fallen' if headline.falls else 'risen'} to it."
        )
    if config.agents.policy == "rllib" and task == "regression":
        yield f"agents.policy=rllib: {read}, and agents learn from accuracies. Expected none, or a rule."
