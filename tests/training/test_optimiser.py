"""The library's Adam is PyTorch's, to the bit, and begins without the compiler's front end."""

from __future__ import annotations

import subprocess
import sys

import torch

from equipoise.training.optimiser import Adam
from equipoise.trajectories import from_bytes, to_bytes


def trained(kind: type[torch.optim.Adam], resumed: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)]
    groups = [{"params": list(layer.parameters()), "lr": rate} for layer, rate in zip(layers, (0.1, 0.01), strict=True)]
    optimiser = kind(groups, fused=True)
    for step in range(6):
        if resumed and step == 3:
            state = optimiser.state_dict()
            optimiser = kind([{"params": group["params"]} for group in groups], fused=True)
            optimiser.load_state_dict(state)
        optimiser.zero_grad()
        layers[1](layers[0](torch.ones(2, 3))).square().sum().backward()
        optimiser.step()
    return [parameter.detach() for layer in layers for parameter in layer.parameters()]


def test_it_takes_the_steps_of_pytorchs() -> None:
    expected = trained(torch.optim.Adam, False)
    for resumed in (False, True):
        assert all(torch.equal(a, b) for a, b in zip(trained(Adam, resumed), expected, strict=True))


def test_saved_moments_fit_weights_that_lie_input_by_input() -> None:
    def trained(turned: bool) -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(3, 4))
        if turned:
            weight.data = weight.data.t().contiguous().t()
        optimiser = Adam([weight], lr=0.1, fused=True)
        for step in range(6):
            if step == 3:
                saved = from_bytes(to_bytes(optimiser.state_dict()))
                optimiser = Adam([weight], lr=0.1, fused=True)
                optimiser.load_state_dict(saved)
            optimiser.zero_grad()
            (weight @ torch.arange(4.0)).square().sum().backward()
            optimiser.step()
        return weight.detach()

    assert torch.allclose(trained(True), trained(False), rtol=1e-5, atol=1e-6)


def test_a_run_in_eager_never_imports_the_compilers_front_end() -> None:
    """It costs a second of CPU, a fifth of a short run."""
    code = (
        "import sys; from equipoise.recipes import Hypergrid; from equipoise.recipes.runs import train; "
        "train(Hypergrid(side=3, steps=2, hidden=(4,))); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL).returncode == 0
