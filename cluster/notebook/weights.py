"""Weights of one model as a safetensors file, with what is needed to build the model again. Nothing in it runs code.

The metadata: ``method``, ``kind`` (GM, TM or PM), ``of`` (whose), ``round``, ``classes`` (K), ``class_names`` (JSON),
``input`` (what reaches the model), and ``model``, the architecture as JSON.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from strata.cluster.notebook.handle import Run
from strata.engine.errors import StateError, StrataError
from strata.engine.method.find import method_names
from strata.engine.models.base import Factory
from strata.engine.models.spec import Joint, ModelSpec
from strata.engine.models.supernets import space
from strata.engine.models.supernets.subnet import SubnetSpec
from strata.engine.served import Served, normalisation
from strata.engine.state.encoding import StateTypes, decoded, encoded, types_in
from strata.engine.training.modules import filled, require_all, slots


def export(run: Run, served: Served, of: str, path: Path) -> None:
    """Write the weights of a model of a run.

    Args:
        run: the run.
        served: the model.
        of: whose it is, e.g. ``client 3``.
        path: the file; what lies there is replaced.

    Raises:
        StrataError: when it cannot be written.
    """
    dataset = run.world.data.dataset
    metadata = {
        "method": run.config.algorithm,
        "kind": served.kind,
        "of": of,
        "round": run.checkpoint.name.removeprefix("round-").lstrip("0"),
        "classes": str(dataset.classes),
        "class_names": json.dumps(list(dataset.class_names)),
        "input": normalisation(dataset),
        "model": _written(served, run.config.algorithm),
    }
    try:
        save_file({name: value.contiguous() for name, value in served.params.items()}, path, metadata)
    except (OSError, SafetensorError) as error:
        raise StrataError(f"{path}: cannot be written: {error}.") from None


def load_model(path: str | Path, model: Factory | None = None) -> nn.Module:
    """The model whose weights ``strata export`` wrote, in evaluation mode.

    Args:
        path: the file.
        model: what makes the module, called with (input shape, classes, options by name), where it is no model of
            Strata: a file of weights does not get to say which code is run.

    Raises:
        StrataError: when the file cannot be read, or its model is one of your own and is not given.
    """
    path = Path(path).expanduser()
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        params = load_file(path)
    except (OSError, SafetensorError) as error:
        raise StrataError(f"{path}: cannot be read: {error}.") from None
    spec = _read(path, metadata)
    own = isinstance(spec, ModelSpec) and ":" in spec.name
    if own != (model is not None):
        asked = "give model=, what makes it" if own else "leave model= out"
        raise StrataError(f"{path}: its model is {getattr(spec, 'name', type(spec).__name__)}; {asked}.")
    try:
        if model is None:
            return filled(spec, params).eval()  # type: ignore[arg-type]
        assert isinstance(spec, ModelSpec)
        return _poured(model(spec.input_shape, spec.classes, **dict(spec.options)), params).eval()
    except (ValueError, KeyError, RuntimeError) as error:
        raise StrataError(f"{path}: its weights do not fit the model: {error}.") from None


def _poured(module: nn.Module, params: Mapping[str, object]) -> nn.Module:
    require_all(slots(module), params)  # type: ignore[arg-type]
    module.load_state_dict(params, strict=False)
    return module


def _written(served: Served, method: str) -> str:
    try:
        return json.dumps(encoded(served.spec, _types(method))[0])
    except StateError as error:
        raise StrataError(f"{method}: its model cannot be described in a file: {error}") from None


def _read(path: Path, metadata: Mapping[str, str]) -> object:
    try:
        return decoded(json.loads(metadata["model"]), {}, _types(metadata["method"]))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StrataError(f"{path}: expected a file of `strata export`; its model cannot be read: {error}.") from None


def _types(method: str) -> StateTypes:
    """What the description of an architecture may hold: Strata's own, and those of the method if it ships with it."""
    own = {**types_in(space.__name__), **{kind.__name__: kind for kind in (ModelSpec, Joint, SubnetSpec)}}
    if method not in method_names():
        return own
    module = f"strata.algorithms.{method}"
    importlib.import_module(module)
    return {**types_in(module, method), **own}
