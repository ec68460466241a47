"""What the torchgfn workers share: trajectory balance, its optimiser, and the step as the benchmark times it.

Three ways of getting log-probabilities with gradients are offered (`--variant`).  On-policy all three are correct: they
give the same loss, and the same gradient up to rounding.

- `recompute` (the default, the fastest): sampling without gradients, then one batched pass over all visited states;
- `outputs`: the network's outputs recorded while sampling, the distribution rebuilt once for all states;
- `logprobs`: recorded while sampling and reused by the loss, as in torchgfn's hypergrid example.

With `--plain` PyTorch's defaults are left as the examples have them; otherwise the two settings outside torchgfn that
speed it up are made: no argument checks in torch.distributions, and Adam's fused kernel.  The examples' clipping of
gradients, their checks for finite values and their validation are left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import numpy
import torch
from gfn.gflownet import TBGFlowNet
from gfn.samplers import Sampler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, arguments

VARIANTS = ("recompute", "outputs", "logprobs")


def parser(description: str, task: str) -> argparse.ArgumentParser:
    """The worker's options."""
    options = arguments(description, task, VARIANTS)
    options.add_argument("--plain", action="store_true", help="PyTorch's defaults, as in torchgfn's examples")
    return options


def begin(options: argparse.Namespace) -> None:
    """Seeds, and makes the settings that hold for the whole process."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    torch.distributions.Distribution.set_default_validate_args(options.plain)


def built(env: Any, forward: Any, backward: Any, work: Any, options: argparse.Namespace) -> Built:
    """The step over an environment and the estimators of its two policies."""
    variant = options.variant
    model = TBGFlowNet(pf=forward, pb=backward, init_logZ=0.0)
    sampler = Sampler(estimator=forward)
    optimiser = torch.optim.Adam(model.pf_pb_parameters(), lr=work.learning_rate, fused=None if options.plain else True)
    optimiser.add_param_group({"params": model.logz_parameters(), "lr": work.log_z_learning_rate})

    def set_learning_rates(policy: float, log_z: float) -> None:
        for group, rate in zip(optimiser.param_groups, (policy, log_z), strict=True):
            group["lr"] = rate

    def step() -> tuple[float, numpy.ndarray]:
        with torch.set_grad_enabled(variant != "recompute"):
            trajectories = sampler.sample_trajectories(
                env,
                n=work.batch,
                save_logprobs=variant == "logprobs",
                save_estimator_outputs=variant == "outputs",
            )
        optimiser.zero_grad()
        loss = model.loss(env, trajectories, recalculate_all_logprobs=variant == "recompute")
        loss.backward()
        optimiser.step()
        return loss.item(), trajectories.terminating_idx.numpy()

    settings = f"{variant}, {'PyTorch defaults' if options.plain else 'no argument checks, fused Adam'}, debug off"
    return Built(step, set_learning_rates, lambda: flat(model), settings, f"torch {torch.__version__}")


def flat(model: torch.nn.Module) -> numpy.ndarray:
    """All parameters in one array."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).numpy()


def version() -> str:
    """The installed version."""
    return importlib.metadata.version("torchgfn")
