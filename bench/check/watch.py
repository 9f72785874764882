"""What a training step does that it need not: wait for its device, copy weights, change the memory format.

A wait costs a GPU its queue. All is seen by torch's dispatch, on any machine, and named by the line that asks for it.
"""

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# Operations whose result, or its shape, the host must know: on a GPU each waits for all that was launched before.
WAITING = {
    aten._local_scalar_dense.default,  # .item(), float(), int(), bool()
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
COPYING = {aten.clone.default, aten.copy_.default, aten._to_copy.default}
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
TORCH = str(Path(torch.__file__).parent)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations on which the host would wait, and the copies of tensors of some shapes.

    waits, copies   "operation (file:line)", in the order in which they came
    accumulated     copies that autograd makes by itself, where a gradient has other strides than its weight
    """

    def __init__(self, shapes: Collection[tuple[int, ...]] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shapes = set(shapes)
        self.waits: list[str] = []
        self.copies: list[str] = []
        self.accumulated: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note an operation, and do it."""
        if func in WAITING or (func in (aten.index.Tensor, aten.index_put_.default) and any(map(_is_mask, args[1]))):
            self.waits.append(f"{func} ({_caller()})")
        if func in COPYING and self._is_copy(args[0], kwargs or {}):
            copies = self.accumulated if _in_backward() else self.copies
            copies.append(f"{func} ({_caller()})")
        return func(*args, **(kwargs or {}))

    def _is_copy(self, tensor: Tensor, kwargs: Mapping[str, Any]) -> bool:
        """Return whether a tensor is of the shape of a weight, and stays what it is: autocast's are no copies."""
        same = kwargs.get("dtype") in (None, tensor.dtype)
        return same and tensor.is_floating_point() and tuple(tensor.shape) in self._shapes


def counted_places(notes: Sequence[str], most: int = 3) -> str:
    """Return notes, each once with how often, the most frequent first."""
    found = Counter(notes).most_common()
    shown = ", ".join(f"{count} x {note}" for note, count in found[:most])
    return shown + (f" and {len(found) - most} more" if len(found) > most else "")


@contextmanager
def formats_watched(model: nn.Module) -> Iterator[list[str]]:
    """Give the names of the convolutions that read images in another format than channels_last."""
    found: list[str] = []

    def note(name: str, inputs: tuple[Any, ...]) -> None:
        read = inputs[0]
        if isinstance(read, Tensor) and read.ndim == 4 and not read.is_contiguous(memory_format=torch.channels_last):
            found.append(name)

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs))
        for name, module in model.named_modules()
        if isinstance(module, CONVOLUTIONS)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def graph_breaks(*, compiled: bool) -> Iterator[list[str]]:
    """Give, after the context, why torch.compile divided what it compiled, each reason once in a line."""
    found: list[str] = []
    if not compiled:
        yield found
        return
    from torch._dynamo.utils import counters  # which takes seconds to import

    before = dict(counters["graph_break"])
    yield found
    found += [" ".join(why.split()) for why, count in counters["graph_break"].items() if count > before.get(why, 0)]


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _in_backward() -> bool:
    """Return whether autograd's engine is at work: on a thread of its own, which no line of the suite called."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_engine_run_backward":
            return True
        if not (frame.f_code.co_filename == __file__ or _is_torch(frame.f_code.co_filename)):
            return False
        frame = frame.f_back
    return True


def _caller() -> str:
    """Return the innermost line that is neither torch's nor this file's, as folder/file.py:line."""
    frame = sys._getframe()
    while frame.f_back is not None and (frame.f_code.co_filename == __file__ or _is_torch(frame.f_code.co_filename)):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_lineno}"


def _is_torch(file: str) -> bool:
    return file.startswith((TORCH, "<"))
