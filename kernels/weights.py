"""Where the weights of modules lie, and in which form: what a recorded tape depends on."""

from torch import Tensor, nn


class Weights:
    """Where the weights of some modules lie. Keeps that memory."""

    def __init__(self, modules: nn.Module):
        self._parts = [
            (mapping, name, part)
            for module in modules.modules()
            for mapping in (module._modules, module._parameters, module._buffers)
            for name, part in mapping.items()
        ]
        self.tensors = [part for _, _, part in self._parts if isinstance(part, Tensor)]
        self._places = [tensor.data_ptr() for tensor in self.tensors]
        self._kept = [tensor.detach() for tensor in self.tensors]

    def unmoved(self) -> bool:
        """Whether all modules still have the same parts, in the same memory."""
        return all(mapping.get(name) is part for mapping, name, part in self._parts) and all(
            tensor.data_ptr() == place
            for tensor, place in zip(self.tensors, self._places, strict=True)
        )


def stored(module: nn.Module) -> tuple[str, Tensor, Tensor | None]:
    """Form, weight and scale of a `Linear`, or of the quantized module in its place."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return getattr(module, "form", "bf16"), weight, getattr(module, "scale", None)
