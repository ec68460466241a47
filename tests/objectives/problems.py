"""Problems small enough to enumerate, shared by the tests of the objectives. All numbers are float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.objectives.divergences import Divergence, divergence

FLOAT = torch.float64

# f of the f-divergence E_target f(model / target), each written down from its definition.
GENERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "reverse_kl": lambda u: u * u.log(),
    "forward_kl": lambda u: -u.log(),
    "hellinger": lambda u: 2 * (u.sqrt() - 1) ** 2,
    "pearson": lambda u: (u - 1) ** 2 / 2,
    "neyman": lambda u: (1 - u) ** 2 / (2 * u),
    "jeffreys": lambda u: (u - 1) * u.log(),
    "jensen_shannon": lambda u: (u * (2 * u / (1 + u)).log() + (2 / (1 + u)).log()) / 2,
    "le_cam": lambda u: (u - 1) ** 2 / (2 * (u + 1)),
    "total_variation": lambda u: (u - 1).abs() / 2,
    "shifted_cosh": lambda u: (u**2 - 1) / 2 - u.log(),
}
STRICT = [name for name in GENERATORS if name != "total_variation"]


def agree(actual: Tensor | tuple[Tensor, ...], expected: Tensor | tuple[Tensor, ...]) -> None:
    """Fail unless two sides of an identity are the same number, rounding apart."""
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def alpha_generator(order: float) -> Callable[[Tensor], Tensor]:
    """f of the alpha-divergence, order neither 0 nor 1."""
    return lambda u: (u**order - order * u + order - 1) / (order * (order - 1))


def every_loss() -> list[tuple[Divergence, Callable[[Tensor], Tensor]]]:
    """Each named divergence with its f, and members of the families that take a parameter."""
    named = [(divergence(name), f) for name, f in GENERATORS.items()]
    orders = [(divergence("alpha", order=order), alpha_generator(order)) for order in (-2.0, 0.3, 1.7, 4.0)]
    bent = [
        (divergence("huber", delta=0.7), huber_generator),
        (divergence("clipped", threshold=0.09), clipped_generator),
    ]
    return named + orders + bent


def huber_generator(u: Tensor) -> Tensor:
    """f of huber with delta 0.7: u log u - u + 1 from e^-0.7 to e^0.7, its tangents beyond."""
    low, high = math.exp(-0.7), math.exp(0.7)
    middle = u * u.log() - u + 1
    above = high * 0.7 - high + 1 + 0.7 * (u - high)
    below = low * -0.7 - low + 1 - 0.7 * (u - low)
    return torch.where(u > high, above, torch.where(u < low, below, middle))


def clipped_generator(u: Tensor) -> Tensor:
    """f of clipped with threshold 0.3^2: the pieces of u log u - u beyond e^-0.3 and e^0.3."""
    low, high = math.exp(-0.3), math.exp(0.3)
    piece = u * u.log() - u
    above, below = piece - (0.3 * high - high), piece - (-0.3 * low - low)
    return torch.where(u > high, above, torch.where(u < low, below, 0.0 * u))


def label(value: object) -> str:
    """How a parametrised test shows a divergence."""
    return f"{value.name} {value.order or ''}".strip() if isinstance(value, Divergence) else ""


@dataclass(frozen=True)
class Choice:
    """One draw among n objects by a softmax of logits, and a reward of each."""

    logits: Tensor
    log_reward: Tensor

    @property
    def log_p(self) -> Tensor:
        return self.logits.log_softmax(0)

    @property
    def p(self) -> Tensor:
        """Probabilities of the samples, which are not differentiated."""
        return self.log_p.detach().exp()

    @property
    def log_z(self) -> Tensor:
        return self.log_reward.logsumexp(0)

    @property
    def log_target(self) -> Tensor:
        return self.log_reward - self.log_z

    def gradient(self, value: Tensor) -> Tensor:
        return torch.autograd.grad(value, self.logits)[0]


def choice(size: int = 7, seed: int = 0) -> Choice:
    noise = torch.Generator().manual_seed(seed)
    logits, log_reward = torch.randn(2, size, generator=noise, dtype=FLOAT)
    return Choice(logits.requires_grad_(), 1.3 * log_reward)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p||q) = sum p (log p - log q)."""
    return (log_p.exp() * (log_p - log_q)).sum()


def renyi(log_p: Tensor, log_q: Tensor, order: float) -> Tensor:
    """The Renyi divergence of p to q, order not 1."""
    return (order * log_p + (1 - order) * log_q).logsumexp(0) / (order - 1)


def batches(log_p: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every batch of `size` draws as row numbers, with its probability."""
    for rows in itertools.product(range(len(log_p)), repeat=size):
        index = torch.tensor(rows)
        yield index, log_p.detach()[index].sum().exp()


def integrate(function: Callable[[Tensor], Tensor], start: float, end: float, intervals: int = 4000) -> float:
    """Simpson's rule: slow, plain and not the library's own quadrature."""
    x = torch.linspace(start, end, intervals + 1, dtype=FLOAT)
    weights = torch.full_like(x, 2.0)
    weights[1::2] = 4.0
    weights[0] = weights[-1] = 1.0
    return float((function(x) * weights).sum() * (end - start) / (3 * intervals))


@dataclass(frozen=True)
class Grid:
    """Walks on a square from its corner, right or up, that may stop anywhere: an acyclic graph with many paths to an
    object. Every complete trajectory is a row; its last step is the stop."""

    state: Tensor  # (rows, steps + 1): the stop repeats the state it stops in
    action: Tensor  # (rows, steps): 0 right, 1 up, 2 stop
    length: Tensor
    forward_logits: Tensor  # (states, 3)
    backward_logits: Tensor  # (states, 2)
    log_reward: Tensor  # (states,)
    side: int

    @property
    def steps(self) -> int:
        return self.action.shape[1]

    @property
    def inside(self) -> Tensor:
        return torch.arange(self.steps) < self.length[:, None]

    @property
    def objects(self) -> Tensor:
        return self.state.gather(1, self.length[:, None])[:, 0]

    @property
    def target(self) -> Tensor:
        return self.log_reward[self.objects]

    @property
    def allowed(self) -> Tensor:
        """Which of the three actions each state has, (states, 3)."""
        x, y = self.coordinates
        return torch.stack([x < self.side - 1, y < self.side - 1, torch.ones_like(x, dtype=torch.bool)], 1)

    @property
    def coordinates(self) -> tuple[Tensor, Tensor]:
        states = torch.arange(self.side**2)
        return states // self.side, states % self.side

    @property
    def log_forward(self) -> Tensor:
        return self.forward_logits.masked_fill(~self.allowed, -torch.inf).log_softmax(1)

    @property
    def log_backward(self) -> Tensor:
        """Which way a state was entered, (states, 3); a stop is always undone by itself."""
        x, y = self.coordinates
        entered = torch.stack([x > 0, y > 0], 1)
        entered[0] = True  # the source has no parent, and none of its entries is read
        ways = self.backward_logits.masked_fill(~entered, -torch.inf).log_softmax(1)
        return torch.cat([ways, torch.zeros(len(ways), 1, dtype=FLOAT)], 1)

    def pick(self, table: Tensor, state: Tensor) -> Tensor:
        """Entries of a (states, actions) table along the trajectories, 0 outside."""
        return torch.where(self.inside, table[state, self.action], 0.0)

    @property
    def log_pf(self) -> Tensor:
        return self.pick(self.log_forward, self.state[:, :-1])

    @property
    def log_pb(self) -> Tensor:
        return self.pick(self.log_backward, self.state[:, 1:])


def walks(side: int) -> Iterator[tuple[list[int], list[int]]]:
    """The states and actions of every complete walk."""
    pending: list[tuple[list[int], list[int]]] = [([0], [])]
    while pending:
        states, actions = pending.pop()
        x, y = divmod(states[-1], side)
        yield [*states, states[-1]], [*actions, 2]
        if x < side - 1:
            pending.append(([*states, states[-1] + side], [*actions, 0]))
        if y < side - 1:
            pending.append(([*states, states[-1] + 1], [*actions, 1]))


def grid(side: int = 3, seed: int = 0) -> Grid:
    rows = list(walks(side))
    steps = max(len(actions) for _, actions in rows)
    noise = torch.Generator().manual_seed(seed)

    def table(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=noise, dtype=FLOAT)

    return Grid(
        state=torch.tensor([states + [0] * (steps + 1 - len(states)) for states, _ in rows]),
        action=torch.tensor([actions + [0] * (steps - len(actions)) for _, actions in rows]),
        length=torch.tensor([len(actions) for _, actions in rows]),
        forward_logits=table(side**2, 3).requires_grad_(),
        backward_logits=table(side**2, 2).requires_grad_(),
        log_reward=table(side**2),
        side=side,
    )
