"""Drawing responses token by token, with a cache of keys and values.

Prompts are left-padded here, so that all rows' next tokens stand in one column; prompts that several rows share are
read once. A row leaves the batch, and the cache, when it stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import ON_POLICY, Behaviour
from equipoise.language.network import Network


@dataclass(frozen=True)
class Responses:
    """What was drawn: `token` (n, most), `length` (n,), `log_behaviour` (n, most) nats, 0 beyond the length."""

    token: Tensor
    length: Tensor
    log_behaviour: Tensor


def generate(
    network: Network,
    prompt: Tensor,
    prompt_length: Tensor,
    *,
    most: int,
    stops: tuple[int, ...],
    uniforms: Tensor | None,
    temperature: float = 1.0,
    behaviour: Behaviour = ON_POLICY,
    kept: Tensor | None = None,
    keep: Tensor | None = None,
) -> Responses:
    """Responses of at most `most` tokens; a token of `stops` is a response's last, and counts.

    Args:
        network: the model.
        prompt: (n, width) tokens, padded on the right.
        prompt_length: (n,) tokens that count, at least 1.
        most: tokens of the longest response.
        stops: tokens that end a response.
        uniforms: (most, n) in [0, 1), the noise of each token; None: the likeliest token each time.
        temperature: of the model itself; divides the logits.
        behaviour: exploration on top of it.
        kept: (n, steps) tokens with which responses begin.
        keep: (n,) how many of them.
    """
    n, device = len(prompt), network.device
    token = torch.zeros((n, most), dtype=torch.int64, device=device)
    log_behaviour = torch.zeros((n, most), device=device)
    count = torch.zeros(n, dtype=torch.int64, device=device)
    if kept is not None and keep is not None:
        width = min(most, kept.shape[1])
        token[:, :width] = (kept * _inside(keep, kept.shape[1])).to(device)[:, :width]
        count = keep.to(device).clone()
    ending = torch.tensor(stops, dtype=torch.int64, device=device)
    uniforms = None if uniforms is None else uniforms.to(device)
    lane = (~_ended(token, count, ending, most)).nonzero()[:, 0]
    with network.sampling():
        state = None
        while len(lane):
            if state is None:
                begun = (token[lane], count[lane])
                state = _State.begin(network, prompt.to(device)[lane], prompt_length.to(device)[lane], *begun)
            place = count[lane]
            noise = None if uniforms is None else uniforms[place, lane]
            chosen, log_chosen = _choose(state.logits, noise, temperature, behaviour)
            token[lane, place], log_behaviour[lane, place] = chosen, log_chosen.to(log_behaviour.dtype)
            count[lane] += 1
            live = ~(torch.isin(chosen, ending) | (count[lane] >= most))
            lane = lane[live]
            if len(lane):
                state.advance(network, chosen, live)
    return Responses(token.cpu(), count.cpu(), log_behaviour.cpu())


class _State:
    """The rows that still grow: their cache, their mask, and the logits of their next tokens."""

    def __init__(self, cache: Any, mask: Tensor, logits: Tensor) -> None:
        self.cache, self.mask, self.logits = cache, mask, logits

    @classmethod
    def begin(cls, network: Network, prompt: Tensor, prompt_length: Tensor, token: Tensor, count: Tensor) -> _State:
        """Reads the prompts and what is kept of the responses; what rows have in common, once."""
        joined, length = join(prompt, prompt_length, token, count)
        distinct, row = torch.cat([length[:, None], joined], 1).unique(dim=0, return_inverse=True)
        padded, mask = _left(distinct[:, 1:], distinct[:, 0])
        cache = network.cache()
        logits = network.following(padded, mask, cache)
        cache.batch_select_indices(row)
        return cls(cache, mask[row], logits[row])

    def advance(self, network: Network, chosen: Tensor, live: Tensor) -> None:
        """One token on, for the rows that live."""
        if not bool(live.all()):
            self.cache.batch_select_indices(live.nonzero()[:, 0])
            self.mask, chosen = self.mask[live], chosen[live]
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        self.logits = network.following(chosen[:, None], self.mask, self.cache)


def join(first: Tensor, first_length: Tensor, second: Tensor, second_length: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of `first` followed by rows of `second` without a gap, padded with 0 on the right; their lengths.

    Example:
        >>> prompt, response = torch.tensor([[5, 9], [6, 7]]), torch.tensor([[1, 2], [3, 9]])
        >>> join(prompt, torch.tensor([1, 2]), response, torch.tensor([2, 1]))[0].tolist()
        [[5, 1, 2], [6, 7, 3]]
    """
    length = first_length + second_length
    width = int(length.max()) if len(length) else 0
    joined = first.new_zeros((len(first), width))
    for part, size, begin in (
        (first, first_length, torch.zeros_like(first_length)),
        (second, second_length, first_length),
    ):
        row, place = _inside(size, part.shape[1]).nonzero(as_tuple=True)
        joined[row, begin[row] + place] = part[row, place]
    return joined, length


def _left(tokens: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Right-padded rows as left-padded ones, and their mask."""
    width = int(length.max())
    shift = torch.arange(width, device=tokens.device) - (width - length)[:, None]
    mask = shift >= 0
    return tokens.gather(1, shift.clamp(min=0)) * mask, mask.long()


def _inside(length: Tensor, width: int) -> Tensor:
    return torch.arange(width, device=length.device) < length[:, None]


def _ended(token: Tensor, count: Tensor, stops: Tensor, most: int) -> Tensor:
    last = token.gather(1, (count - 1).clamp(min=0)[:, None])[:, 0]
    return (count >= most) | ((count > 0) & torch.isin(last, stops))


def _choose(logits: Tensor, noise: Tensor | None, temperature: float, behaviour: Behaviour) -> tuple[Tensor, Tensor]:
    """One token a row by inverse CDF of one uniform, and its log-probability under the behaviour."""
    log_policy = torch.log_softmax(logits / (temperature * behaviour.temperature), 1)
    if noise is None:
        chosen = log_policy.argmax(1)
        return chosen, log_policy.gather(1, chosen[:, None])[:, 0]
    policy = log_policy.exp()
    if behaviour.epsilon:
        policy = (1 - behaviour.epsilon) * policy + behaviour.epsilon / policy.shape[1]
        log_policy = policy.log()
    cumulative = policy.cumsum(1)
    target = noise[:, None].to(cumulative.dtype) * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=policy.shape[1] - 1)
    return chosen, log_policy.gather(1, chosen[:, None])[:, 0]
