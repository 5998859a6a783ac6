"""Recording what a computation comes to, as a list of torch's own operations that can be replayed on other operands.

For what is computed again and again in equal shapes: Python's, autograd's and :mod:`torch.func`'s share of the work,
which for small models is most of it, is done once. A replay makes the same operations in the same order, so the bits
are those of the computation itself, but for :func:`simplified`, which says what it changes, and, on a GPU, for
:mod:`~strata.engine.training.replay.products`.
"""

import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from strata.engine.training.replay.pooling import with_pooling
from strata.engine.training.replay.products import with_products

Operation = Callable[..., Sequence[Tensor]]

ATEN = torch.ops.aten
SAME = {ATEN.expand.default, ATEN.view.default, ATEN._unsafe_view.default, ATEN.detach.default, ATEN.alias.default}
"""Operations that change nothing where the shape stays."""

LIKE = {
    ATEN.ones_like.default,
    ATEN.zeros_like.default,
    ATEN.new_zeros.default,
    ATEN.new_ones.default,
    ATEN.new_full.default,
}
"""Operations whose results rest on a tensor's shape alone."""

MOST_FIXED = 2**16
"""Values of a result that is kept with the recording, at most, instead of being made in each replay."""


def record(operation: Operation, operands: Sequence[Tensor], constants: Iterable[Tensor] = ()) -> Operation:
    """The recording of an operation, for operands of these shapes.

    Args:
        operation: its tensors are its operands, ``constants``, and those that it makes; no number in it rests on a
            tensor's value.
        operands: values to record it with.
        constants: further tensors that it may use, which stay as they are.

    Raises:
        RuntimeError: when it uses a tensor from elsewhere.
    """
    tape = _Tape(operands, constants)
    with tape:
        made = operation(*operands)
    return tape.finish(made)


class _Tape(TorchDispatchMode):
    def __init__(self, operands: Sequence[Tensor], constants: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = Graph()
        self._nodes: dict[Hashable, Node] = {}
        self._alive: list[Tensor] = []  # or another tensor would be made where one was
        self._held: dict[str, Tensor] = {}
        self._constants = {_place(constant) for constant in constants}
        self._fixed: dict[Node, Tensor] = {}  # results that no operand's value enters
        self._in_place = False
        for number, operand in enumerate(operands):
            self._keep(operand, self._graph.placeholder(f"operand{number}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it torch would import its compiler

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        if func in (ATEN.lift_fresh.default, ATEN.lift_fresh_copy.default):  # a number that the code turns to a tensor
            self._constants.update(_place(arg) for arg in args if isinstance(arg, Tensor))
        node = self._graph.call_function(func, *tree_map(self._node, (args, kwargs or {})))
        self._in_place |= func._schema.is_mutable
        if isinstance(made, Tensor):
            self._keep(made, node)
            if func in LIKE or self._rests_on_nothing(node):
                self._fixed[node] = made
        else:
            for number, part in enumerate(made):
                if isinstance(part, Tensor):
                    self._keep(part, self._graph.call_function(operator.getitem, (node, number)))
        return made

    def _rests_on_nothing(self, node: Node) -> bool:
        drawn = torch.Tag.nondeterministic_seeded in node.target.tags  # type: ignore[union-attr]
        return not drawn and all(before in self._fixed for before in node.all_input_nodes)

    def _keep(self, tensor: Tensor, node: Node) -> None:
        node.meta["shape"], node.meta["dtype"] = tuple(tensor.shape), tensor.dtype
        self._alive.append(tensor)
        self._nodes[_place(tensor)] = node

    def _node(self, value: object) -> object:
        if not isinstance(value, Tensor):
            return value
        place = _place(value)
        if place not in self._nodes:
            if place not in self._constants:
                raise RuntimeError("it uses a tensor that is neither the model's nor the batch's")
            name = f"constant{len(self._held)}"
            self._held[name] = value
            self._keep(value, self._graph.get_attr(name))
        return self._nodes[place]

    def finish(self, made: Sequence[Tensor]) -> Operation:
        self._graph.output(tuple(self._nodes[_place(tensor)] for tensor in made))
        simplified(self._graph)
        if not self._in_place:
            self._fold()
        if any(isinstance(tensor, Tensor) and tensor.is_cuda for tensor in made):
            with_products(self._graph)
        else:
            with_pooling(self._graph)
        replay: Operation = GraphModule(self._held, self._graph).forward
        return replay

    def _fold(self) -> None:
        """Keep with the recording what is the same in every replay, and leave out what nothing rests on."""
        for number, (node, value) in enumerate(self._fixed.items()):
            if value.numel() <= MOST_FIXED and any(user.op != "output" for user in node.users):
                self._held[f"fixed{number}"] = value
                with self._graph.inserting_before(node):
                    kept = self._graph.get_attr(f"fixed{number}")
                kept.meta["shape"] = _shape(node)
                node.replace_all_uses_with(kept, lambda user: user.op != "output")
                if bool((value == 1).all()):
                    _leave_out_products(kept, value)
        self._graph.eliminate_dead_code()


def _leave_out_products(ones: Node, value: Tensor) -> None:
    """Leave out the products with a tensor of ones that are the other factor, of equal shape and type."""
    for node in list(ones.users):
        if node.target == ATEN.mul.Tensor:
            (other,) = [factor for factor in node.args if factor is not ones] or [ones]
            if isinstance(other, Node) and _shape(other) == _shape(node) and other.meta.get("dtype") == value.dtype:
                node.replace_all_uses_with(other)


def _place(tensor: Tensor) -> Hashable:
    """Where a tensor lies, and how: autograd hands around copies of the same."""
    where = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    return *where, tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device


def simplified(graph: Graph) -> None:
    """Leave out operations that change nothing, and make those of a dense layer as a layer by itself makes them.

    ``vmap`` adds a bias after the product; a layer by itself hands it to the product (``addmm``), which rounds
    otherwise. And autograd makes the gradient of a weight as ``(xᵀg)ᵀ`` where a layer by itself makes ``gᵀx``. With
    ``baddbmm``, and the product the other way round, every client gets the bits that it gets by itself.
    """
    for node in list(graph.nodes):
        if _changes_nothing(node):
            _replace(node, node.args[0])
        elif node.target == ATEN.transpose.int and _is_product_transposed(node):
            left, right = node.args[0].args
            with graph.inserting_before(node):
                turned = graph.call_function(ATEN.transpose.int, (right, 1, 2))
                product = graph.call_function(ATEN.bmm.default, (turned, left.args[0]))
            product.meta["shape"] = _shape(node)
            inner = node.args[0]
            _replace(node, product)
            _erase(inner)
            _erase(left)
        elif node.target == ATEN.add.Tensor and not node.kwargs and _is_bias_and_product(*node.args):
            bias, product = node.args
            with graph.inserting_before(node):
                joined = graph.call_function(ATEN.baddbmm.default, (bias, *product.args))
            joined.meta["shape"] = _shape(node)
            _replace(node, joined)
            _erase(product)


def _changes_nothing(node: Node) -> bool:
    if node.target == ATEN.mul.Scalar:
        return node.args[1:] == (1,)
    before = node.args[0] if node.target in SAME else None
    return isinstance(before, Node) and _shape(node) == _shape(before)


def _is_bias_and_product(bias: object, product: object) -> bool:
    if not isinstance(bias, Node) or not isinstance(product, Node) or product.target != ATEN.bmm.default:
        return False
    return len(product.users) == 1 and len(_shape(bias)) == 3 and _shape(bias)[1] == 1


def _is_product_transposed(node: Node) -> bool:
    """Whether it is ``(AᵀB)ᵀ``, of which nothing else is used."""
    product = node.args[0]
    if not isinstance(product, Node) or product.target != ATEN.bmm.default or len(product.users) > 1:
        return False
    left = product.args[0]
    return isinstance(left, Node) and left.target == ATEN.transpose.int and node.args[1:] == left.args[1:] == (1, 2)


def _replace(node: Node, by: Node) -> None:
    node.replace_all_uses_with(by)
    _erase(node)


def _erase(node: Node) -> None:
    if not node.users:
        node.graph.erase_node(node)


def _shape(node: Node) -> tuple[int, ...]:
    shape: tuple[int, ...] = node.meta["shape"]
    return shape
