"""Log-ratios of Gaussian steps that share their noise: pure functions, one number a step.

All take what a step was moved by (`moved` = x_{t+1} - keep x_t), the outputs f of the model and g of the reference on
x_t, flat, (..., dimensions), and the step's gain and std, which broadcast to (...). Where std is 0 the step is the
reference's own for every model, and all is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def girsanov(moved: Tensor, output: Tensor, reference: Tensor, gain: Tensor, std: Tensor) -> Tensor:
    """log N(moved; gain f, std^2) - log N(moved; gain g, std^2) = gain (f - g) . (moved - gain (f + g) / 2) / std^2.

    The quadratic terms, one for each dimension and step, cancel before anything is rounded: for 3,072 dimensions and
    1,000 steps float32 keeps the digits of a path's sum that a difference of two sums loses.

    Source: the discrete form of Girsanov's theorem, as in Zhang and Chen, 2022, "Path Integral Sampler", arXiv
        2111.15141.

    Args:
        moved: x_{t+1} - keep x_t, (..., dimensions).
        output: f, of the trained model, the same shape.
        reference: g, of the prior, or zeros for the process without drift, the same shape.
        gain: factor of the output, broadcasting to (...).
        std: of the step's noise, broadcasting to (...).

    Returns:
        Nats, (...), differentiable in `output`.

    Example:
        >>> import torch
        >>> one = torch.ones(1)
        >>> girsanov(torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([[0.0]]), one, one)
        tensor([1.5000])

    Use it where both share std; with another std in the reference there is no bounded ratio as steps shrink.
    """
    middle = torch.addcmul(moved, (-0.5 * gain)[..., None], output + reference)
    return _weight(gain, std) * ((output - reference) * middle).sum(-1)


def step_kl(output: Tensor, reference: Tensor, gain: Tensor, std: Tensor) -> Tensor:
    """KL(N(gain f, std^2) || N(gain g, std^2)) = gain^2 |f - g|^2 / (2 std^2), (...), in nats.

    Its sum over the steps of paths of the model is in expectation KL of model and reference paths, which bounds that of
    their objects from above.

    Source: Fan et al., 2023, "DPOK", arXiv 2305.16381, for its use.

    Example:
        >>> import torch
        >>> two = torch.full((1,), 2.0)
        >>> step_kl(torch.tensor([[3.0]]), torch.tensor([[1.0]]), two, two)
        tensor([2.])
    """
    return 0.5 * gain * _weight(gain, std) * (output - reference).square().sum(-1)


def widened(moved: Tensor, output: Tensor, reference: Tensor, gain: Tensor, std: Tensor, wide: Tensor) -> Tensor:
    """log N(moved; gain f, wide^2) - log N(moved; gain g, std^2): a step whose noise was inflated for exploration.

    In float64, since its terms do not cancel; with wide = std it is `girsanov`.

    Args:
        moved: x_{t+1} - keep x_t, (..., dimensions).
        output: f, of the model that drew it.
        reference: g, of the prior.
        gain: factor of the output, broadcasting to (...).
        std: of the reference's noise.
        wide: of the noise that the step was drawn with, at least std.

    Returns:
        Nats, (...), float32.

    Use it for the weights of off-policy RL; the residuals never need it.
    """
    moved, output, reference = moved.double(), output.double(), reference.double()
    gain, std, wide = gain.double(), std.double(), wide.double()
    noisy = std > 0
    drawn = (moved - gain[..., None] * output).square().sum(-1) / wide.square().clamp(min=1e-300)
    other = (moved - gain[..., None] * reference).square().sum(-1) / std.square().clamp(min=1e-300)
    scale = moved.shape[-1] * torch.where(noisy, std / wide.clamp(min=1e-300), 1.0).log()
    return torch.where(noisy, scale + 0.5 * (other - drawn), 0.0).float()


def subsampled(full: Tensor, part: Tensor, chosen: Tensor) -> Tensor:
    """Every step's value as in `full`, and an unbiased estimate of its gradient from the chosen steps.

    value = full; gradient = (steps / k) times that of `part`, whose value was added and taken away. Chosen uniformly
    without replacement, the mean over all subsets is the full gradient for any loss of the whole row, since its slope
    is taken at the full value.

    Args:
        full: (n, steps), without gradients.
        part: the same values of the chosen steps, with their gradient, (n, k).
        chosen: their places, (n, k) int64, distinct in each row.

    Returns:
        (n, steps).

    Example:
        >>> import torch
        >>> part = torch.tensor([[2.0]], requires_grad=True)
        >>> rows = subsampled(torch.tensor([[1.0, 2.0]]), part, torch.tensor([[1]]))
        >>> rows.sum().backward()
        >>> rows.tolist(), part.grad.item()
        ([[1.0, 2.0]], 2.0)

    Use it where a whole path's gradient does not fit in memory or in the time there is.
    """
    scale = full.shape[1] / part.shape[1]
    return full.scatter_add(1, chosen, scale * (part - part.detach()))


def _weight(gain: Tensor, std: Tensor) -> Tensor:
    """gain / std^2, 0 where there is no noise."""
    return torch.where(std > 0, gain / std.square().clamp(min=1e-30), 0.0)
