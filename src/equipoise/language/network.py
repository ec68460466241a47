"""A causal language model of transformers as two calls: tokens to hidden states, hidden states to logits.

Apart, they let log-probabilities be taken a slice of tokens at a time, so that logits of a whole batch never lie in
memory. Both can be called with a frozen copy of the trained parameters in place of the present ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Network(nn.Module):
    """A causal language model without dropout, called by the name of a method.

    Args:
        model: an `AutoModelForCausalLM`, or one with adapters of peft.
        bf16: run it under autocast to bfloat16; logits are float32 all the same.

    Raises:
        ValueError: a model without an output layer.
    """

    def __init__(self, model: nn.Module, *, bf16: bool = False) -> None:
        super().__init__()
        self.model, self.bf16 = model, bf16
        _silence(model)
        causal: Any = _causal(model)
        if causal.get_output_embeddings() is None:
            raise ValueError(f"{type(causal).__name__} has no output layer: a causal language model was expected")
        self.window: int | None = getattr(causal.config.get_text_config(), "max_position_embeddings", None)
        self.vocabulary = int(causal.get_output_embeddings().weight.shape[0])
        model.train(self._checkpoints())
        self.split = True
        self.split = self._splits()

    def forward(self, call: str, *arguments: Any) -> Any:
        """`call` of this network: what lets `functional_call` reach every method."""
        return getattr(self, call)(*arguments)

    def hidden(self, tokens: Tensor, length: Tensor) -> Tensor:
        """The last hidden states (n, width, ...) of right-padded tokens (n, width)."""
        mask = (torch.arange(tokens.shape[1], device=tokens.device) < length[:, None]).long()
        causal: Any = _causal(self.model)
        with self._autocast():
            if self.split:
                called = _decoder(causal)(input_ids=tokens, attention_mask=mask, use_cache=False)
                return called.last_hidden_state
            return causal(input_ids=tokens, attention_mask=mask, use_cache=False).logits

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocabulary) of hidden states, float32 or better."""
        causal: Any = _causal(self.model)
        with self._autocast():
            found = causal.get_output_embeddings()(hidden) if self.split else hidden
        return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found

    def following(self, tokens: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Logits (n, vocabulary) after the last of left-padded tokens; the cache grows by them."""
        causal: Any = _causal(self.model)
        place = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        more = {"position_ids": place} if _takes_places(causal) else {}
        with self._autocast():
            called = causal(
                input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1, **more
            )
        found = called.logits[:, -1]
        return found.float() if found.dtype in (torch.bfloat16, torch.float16) else found

    def cache(self) -> Any:
        """An empty cache of keys and values."""
        from transformers import DynamicCache

        causal: Any = _causal(self.model)
        return DynamicCache(config=causal.config)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Without gradients, and without the checkpointing that would drop the cache."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(training)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def _checkpoints(self) -> bool:
        # transformers checkpoints in training mode alone; without dropout the modes agree otherwise.
        return any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules())

    def _splits(self) -> bool:
        """Whether the output layer on the decoder's states is all there is: some models scale or cap their logits."""
        tokens = torch.arange(3, device=self.device)[None] % self.vocabulary
        causal: Any = _causal(self.model)
        with self.sampling():
            mine = self.logits(self.hidden(tokens, torch.tensor([3], device=self.device)))
            with self._autocast():
                whole = causal(input_ids=tokens, use_cache=False).logits.to(mine.dtype)
        return mine.shape == whole.shape and torch.allclose(mine, whole, rtol=1e-2, atol=1e-2)


class Frozen(nn.Module):
    """A copy of a network's trained parameters, with a version; what is not trained is shared with the network.

    Args:
        network: whose parameters are copied.
    """

    version: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))
        for place, parameter in enumerate(self._of(network)):
            self.register_buffer(f"parameter_{place}", parameter.detach().clone())

    def take(self, network: nn.Module) -> None:
        """Copies the network's parameters as they are now; the version rises."""
        with torch.no_grad():
            for place, parameter in enumerate(self._of(network)):
                self.get_buffer(f"parameter_{place}").copy_(parameter)
        self.version += 1

    def call(self, network: nn.Module, name: str, *arguments: Any) -> Any:
        """A call of the network with these parameters, without gradients."""
        kept = {parameter: self.get_buffer(f"parameter_{place}") for place, parameter in enumerate(self.names)}
        with torch.no_grad():
            return functional_call(network, kept, (name, *arguments))

    @contextmanager
    def lent(self, network: nn.Module) -> Iterator[None]:
        """The network with these parameters for as long as the block lasts; no graph of it may be alive."""
        present = [parameter.detach().clone() for parameter in self._of(network)]
        self._give(network, [self.get_buffer(f"parameter_{place}") for place in range(len(self.names))])
        try:
            yield
        finally:
            self._give(network, present)

    @torch.no_grad()
    def _give(self, network: nn.Module, values: list[Tensor]) -> None:
        for parameter, value in zip(self._of(network), values, strict=True):
            parameter.copy_(value)

    def _of(self, network: nn.Module) -> list[Tensor]:
        held = dict(network.named_parameters())
        return [held[name] for name in self.names]


def _causal(model: nn.Module) -> nn.Module:
    """The causal model itself, with its adapters in it."""
    inner = getattr(model, "get_base_model", None)
    return model if inner is None else inner()


def _decoder(causal: Any) -> nn.Module:
    found = causal.get_decoder() if hasattr(causal, "get_decoder") else None
    return causal.base_model if found is None or found is causal else found


def _takes_places(causal: nn.Module) -> bool:
    return "position_ids" in causal.forward.__code__.co_varnames or hasattr(causal.forward, "__wrapped__")


def _silence(model: nn.Module) -> None:
    """Switches dropout off for good: a trajectory's score is a function of the trajectory."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
