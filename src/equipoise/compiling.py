"""Compiled functions of parameters that lie in one vector, each compiled once a shape; what fails is said once.

A function is traced to a graph of tensor operations and given to `torch.compile`, so everything that it reads beside
its inputs and the parameters must be constant. Compiled code is kept in the user's cache folder
(``$XDG_CACHE_HOME/equipoise/inductor``, unless TORCHINDUCTOR_CACHE_DIR names another).
"""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from equipoise.objectives.arguments import shapes_alone

OPTIONS: dict[str, Any] = {
    "cpp_wrapper": True,  # 5 to 25 % less than calling kernels from Python
    "unroll_reductions_threshold": 1,  # torch 2.13 fails to build short reductions over masks that it unrolls
}
PATIENCE = 3
"""Calls of one shape before it is compiled: what is asked for once or twice is not worth seconds."""

WASTE = 100.0
"""Work, in calls of a bucket's own size, that is spent on padding to a larger one before it gets its own."""


class NotCompiled(Exception):
    """A function that cannot be compiled, or is not yet worth it: its caller does the same in eager."""


class Flat:
    """The trained parameters of modules as one vector, of which each parameter becomes a view.

    A linear layer's weights lie there input by input, so that few rows are multiplied by them in half the time.

    Args:
        modules: whose parameters are joined; they must be of one dtype.

    Raises:
        NotCompiled: parameters of several dtypes, or none.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> flat = Flat([layer])
        >>> flat.value.shape, layer.bias.data_ptr() == flat.value[6:].data_ptr()
        (torch.Size([9]), True)
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        held = list(modules)
        every = {id(parameter): parameter for module in held for parameter in module.parameters()}
        self.parameters = [parameter for parameter in every.values() if parameter.requires_grad]
        if len({parameter.dtype for parameter in self.parameters}) != 1:
            raise NotCompiled("there are no parameters, or they are of several dtypes")
        self.sizes = [parameter.numel() for parameter in self.parameters]
        self._place = {id(parameter): place for place, parameter in enumerate(self.parameters)}
        layers = (layer for module in held for layer in module.modules() if isinstance(layer, nn.Linear))
        self._turned = {id(layer.weight) for layer in layers}
        joined = self.parameters[0].detach().new_empty(sum(self.sizes))
        for piece, parameter in zip(self.pieces(joined), self.parameters, strict=True):
            piece.copy_(parameter.detach())
        self.bare = joined
        self.value = joined.detach().requires_grad_()
        self.value.grad = torch.zeros_like(joined)
        for parameter, data, grad in zip(
            self.parameters, self.pieces(self.bare), self.pieces(self.value.grad), strict=True
        ):
            parameter.data, parameter.grad = data, grad

    def zero_grad(self) -> None:
        """Sets the gradient, and the parameters' own, which are views of it, to 0."""
        assert self.value.grad is not None
        self.value.grad.zero_()

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector in the shapes of the parameters."""
        parts = zip(vector.split(self.sizes), self.parameters, strict=True)
        return [
            part.view(parameter.shape[::-1]).t() if id(parameter) in self._turned else part.view(parameter.shape)
            for part, parameter in parts
        ]

    def bound(self, module: nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
        """(vector, *inputs) -> function(*inputs) with the module's parameters read from the vector."""
        held = _Held(module, function)

        def of_vector(vector: Tensor, *inputs: Tensor) -> Any:
            named = {f"module.{name}": piece for name, piece in self.named(module, vector).items()}
            return torch.func.functional_call(held, named, inputs)

        return of_vector

    def named(self, module: nn.Module, vector: Tensor) -> dict[str, Tensor]:
        """The module's parameters by name, as pieces of a vector."""
        pieces = self.pieces(vector)
        return {
            name: pieces[self._place[id(parameter)]]
            for name, parameter in module.named_parameters()
            if id(parameter) in self._place
        }


class Compiler:
    """Compiles functions whose parameters lie in one vector.

    Args:
        flat: the parameters.

    Use it where one shape is met a thousand times: compiling costs seconds.
    """

    def __init__(self, flat: Flat) -> None:
        folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(folder) / "equipoise" / "inductor"))
        self.flat = flat
        self._made: dict[Hashable, Callable[..., tuple[Tensor, ...]]] = {}
        self._refused: set[Hashable] = set()
        self._wanted: Counter[Hashable] = Counter()
        self._wasted: defaultdict[Hashable, float] = defaultdict(float)
        self._missed: defaultdict[Hashable, list[int]] = defaultdict(list)
        self._said: set[str] = set()
        self._broken = False

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of a module has parameters of its own: it runs in eager."""

    def wanted(self, key: Hashable) -> bool:
        """Counts a call that would use this key; whether it is compiled, or has come often enough to be."""
        self._wanted[key] += 1
        return key in self._made or self._wanted[key] >= PATIENCE

    def call(
        self,
        what: str,
        key: Hashable,
        function: Callable[..., tuple[Tensor, ...]],
        *inputs: Tensor,
        module: nn.Module | None = None,
    ) -> tuple[Tensor, ...]:
        """function(*inputs), compiled.

        Args:
            what: the function's name, for people.
            key: of the function and of the inputs' shapes; what the function reads otherwise must be constant by key.
            function: of tensors; called once, to be traced.
            inputs: tensors.
            module: whose parameters are read from the vector; the result is differentiable by the vector.

        Raises:
            NotCompiled: it cannot be traced or compiled; said once.
        """
        if self._broken or key in self._refused:
            raise NotCompiled(what)
        if module is not None:
            inputs = (self.flat.value if torch.is_grad_enabled() else self.flat.bare, *inputs)
        if key not in self._made:
            self._made[key] = self._compiled(what, key, function, module, inputs)
        return self._made[key](*inputs)

    def smallest(self, group: tuple[Hashable, ...], size: int) -> tuple[Any, ...]:
        """The key (*group, size) of the bucket to use: the wanted one, or a larger one that is compiled already.

        Raises:
            NotCompiled: none is compiled that is large enough, and such have not been wanted often enough.
        """
        made = [key[-1] for key in self._made if isinstance(key, tuple) and key[:-1] == group]
        larger = min((other for other in made if other >= size), default=None)
        if larger is not None:
            self._wasted[(*group, size)] += larger / size - 1
            return (*group, larger if self._wasted[(*group, size)] < WASTE else size)
        missed = self._missed[group]
        missed.append(size)
        if len(missed) < PATIENCE:
            raise NotCompiled(str(group))
        size = max(missed)
        missed.clear()
        return (*group, size)

    def refuse(self, what: str, key: Hashable, reason: BaseException | str) -> NotCompiled:
        """The error of a function that is not compiled; its reason is said once for each `what`."""
        self._refused.add(key)
        if what not in self._said:
            self._said.add(what)
            lines = str(reason).strip().splitlines() or [type(reason).__name__]
            warnings.warn(f"--compile: {what} goes on in eager: {lines[0][:200]}", RuntimeWarning, stacklevel=3)
        return NotCompiled(what)

    def _compiled(
        self,
        what: str,
        key: Hashable,
        function: Callable[..., tuple[Tensor, ...]],
        module: nn.Module | None,
        inputs: tuple[Tensor, ...],
    ) -> Callable[..., tuple[Tensor, ...]]:
        function = function if module is None else self.flat.bound(module, function)
        try:
            graph = traced(function, inputs)
        except Exception as error:
            raise self.refuse(what, key, error) from error
        try:
            made = lowered(graph, inputs)
            outputs = made(*_apart(inputs))
            if torch.is_grad_enabled():  # the gradient is compiled on its first call, which is better here than later
                total = sum((value.sum() for value in outputs if value.requires_grad), torch.zeros(()))
                torch.autograd.grad(total, inputs[0])
        except Exception as error:
            self._broken = True
            raise self.refuse("training", key, error) from error
        return made


# What follows imports at use: who does not compile does not pay for it.


def traced(function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """The tensor operations of a function, called once on copies of its inputs.

    Raises:
        ValueError: sizes in it depend on values: those of one call would be kept for all.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    with shapes_alone():
        graph = make_fx(function)(*_apart(inputs))
    for node in graph.graph.nodes:
        if _varies(node):
            raise ValueError(f"the sizes in it depend on values ({node.target})")
    for node in graph.graph.nodes:  # values of the trace belong to a mode of their own, which the compiler's is not
        node.meta.pop("val", None)
        node.meta.pop("tensor_meta", None)
    return graph


def _varies(node: fx.Node) -> bool:
    """Whether the size of an operation's result depends on values."""
    if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
        return False
    if node.target is not torch.ops.aten.index.Tensor:
        return True
    indices: Any = node.args[1]
    return any(index is not None and index.meta["val"].dtype == torch.bool for index in indices)


def lowered(graph: fx.GraphModule, inputs: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, ...]]:
    """The compiled graph, called as it is: the guards of `torch.compile` cost a tenth of a millisecond a call."""
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    options = OPTIONS
    if not any(node.target is torch.ops.aten.bmm.default for node in graph.graph.nodes):
        graph, options = _biases_apart(graph), {**OPTIONS, "pattern_matcher": False}
    mode = FakeTensorMode(shape_env=ShapeEnv(assume_static_by_default=True), allow_non_fake_inputs=True)
    with tracing(TracingContext(mode)):
        made: Any = compile_fx(graph, _apart(inputs), config_patches=options)
    return made


def _biases_apart(graph: fx.GraphModule) -> fx.GraphModule:
    """Products with a bias as a product and a sum, which is then made along with the activation after it.

    One call of both lays the bias into every row first: a tenth of a perceptron's step. The compiler's patterns would
    join them again; with attention, whose graphs they improve by more, they are left to it.
    """
    aten = torch.ops.aten
    for node in list(graph.graph.nodes):
        if node.target is aten.addmm.default and not node.kwargs:
            bias, left, right = node.args
            with graph.graph.inserting_before(node):
                product = graph.graph.call_function(aten.mm.default, (left, right))
                total = graph.graph.call_function(aten.add.Tensor, (product, bias))
            node.replace_all_uses_with(total)
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def _apart(inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Copies of what a function may write to, so that trying it changes nothing; leaves stay what they are."""
    return [value if value.requires_grad else value.clone() for value in inputs]


class _Held(nn.Module):
    """A function as the forward of a module, so that the parameters it reads can be replaced."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)
