"""Times torchgfn's relative trajectory balance on the fine-tuning workload, by an interpreter that has torchgfn.

    python benchmarks/peers/torchgfn_finetuning.py --steps 20
    python benchmarks/peers/torchgfn_finetuning.py --compare shared.pt

Environment, estimators, network, loss, sampler and optimiser groups are those of torchgfn's own example of this
problem.

- `fast` (the default): what is not part of the method is left out: rollouts without gradients, debug checks and
  argument checks off, Adam's fused kernel, and a network of the very function that Equipoise's has (one joint layer);
- `example`: as the example has it: rollouts that record a graph which nothing uses, debug checks on as they are under a
  plain `python`, Adam as it comes, two joint layers.

It takes gradients through all steps: in the regime `subsampled`, which it does not offer, it is timed as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy
import torch
from gfn.containers import Trajectories
from gfn.estimators import PinnedBrownianMotionForward
from gfn.gflownet import RelativeTrajectoryBalanceGFlowNet
from gfn.gym.diffusion_sampling import DiffusionSampling
from gfn.samplers import Sampler
from gfn.utils.modules import DiffusionPISGradNetForward
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, arguments, run_worker
from peers.torchgfn_loop import begin, flat, version
from workloads import Finetuning

WORK = Finetuning()
VARIANTS = ("fast", "example")


def estimator(joint_layers: int) -> PinnedBrownianMotionForward:
    """A policy whose output layer is not 0; sigma is 1 and the time scale, as in the example, the variance."""
    work = WORK
    module = DiffusionPISGradNetForward(
        s_dim=2,
        harmonics_dim=64,
        t_emb_dim=work.width,
        s_emb_dim=work.width,
        hidden_dim=work.width,
        joint_layers=joint_layers,
        zero_init=True,
        t_scale=work.variance,
    )
    nn.init.normal_(module.joint_model.model[-1].weight, std=work.out_std)
    return PinnedBrownianMotionForward(s_dim=2, pf_module=module, sigma=1.0, num_discretization_steps=work.steps)


def environment(debug: bool) -> DiffusionSampling:
    """25 Gaussians as the prior, 9 of them as the posterior."""
    return DiffusionSampling("gmm25_posterior9", None, num_discretization_steps=WORK.steps, debug=debug)


def build(work: Finetuning, options: argparse.Namespace) -> Built:
    """Sets up the environment, model and prior, the loss and the optimiser."""
    example = options.variant == "example"
    begin(argparse.Namespace(seed=options.seed, plain=example))
    env = environment(debug=example)
    model, prior = (estimator(joint_layers=2 if example else 1) for _ in range(2))
    prior.eval().requires_grad_(False)
    gflownet = RelativeTrajectoryBalanceGFlowNet(pf=model, prior_pf=prior, init_logZ=0.0, beta=1.0)
    sampler = Sampler(estimator=model)
    groups = [
        {"params": gflownet.pf.parameters(), "lr": work.learning_rate},
        {"params": gflownet.logz_parameters(), "lr": work.log_z_learning_rate},
    ]
    optimiser = torch.optim.Adam(groups, lr=work.learning_rate, fused=None if example else True)

    def set_learning_rates(policy: float, log_z: float) -> None:
        for group, rate in zip(optimiser.param_groups, (policy, log_z), strict=True):
            group["lr"] = rate

    def step() -> tuple[float, numpy.ndarray]:
        with torch.set_grad_enabled(example):
            trajectories = sampler.sample_trajectories(
                env,
                n=work.batch,
                save_logprobs=False,
                save_estimator_outputs=False,
                exploration_std=torch.tensor(work.exploration),
            )
        optimiser.zero_grad()
        loss = gflownet.loss(env, trajectories, recalculate_all_logprobs=True)
        loss.backward()
        optimiser.step()
        return loss.item(), trajectories.terminating_idx.numpy()

    count = sum(parameter.numel() for parameter in gflownet.pf.parameters())
    settings = f"{options.variant}; {count} parameters; gradients through all steps"
    return Built(step, set_learning_rates, lambda: flat(gflownet), settings, f"torch {torch.__version__}")


def compare(file: str) -> dict[str, float]:
    """How far this library's scores of the same paths under the same weights are from those in the file."""
    shared = torch.load(file, weights_only=True)
    model, prior = (estimator(joint_layers=1) for _ in range(2))
    for name, one in (("model", model), ("prior", prior)):
        weights = {key.removeprefix(f"{name}."): shared[key] for key in shared if key.startswith(f"{name}.")}
        missing, unexpected = one.module.load_state_dict(weights, strict=False)
        assert not unexpected and set(missing) <= {"t_model.pe"}, (missing, unexpected)
    env, steps, state = environment(debug=False), WORK.steps, shared["state"]
    n = len(state)
    time = torch.arange(steps).expand(n, steps) / steps
    visited = torch.cat([state, time[..., None]], 2).transpose(0, 1)
    sink = torch.full((1, n, 3), -math.inf)
    end = torch.full((1, n, 2), -math.inf)
    trajectories = Trajectories(
        env=env,
        states=env.states_from_tensor(torch.cat([visited, sink])),
        actions=env.actions_from_tensor(torch.cat([state.diff(dim=1).transpose(0, 1), end])),
        terminating_idx=torch.full((n,), steps),
        log_rewards=env.log_reward(env.states_from_tensor(visited[-1])),
    )
    gflownet = RelativeTrajectoryBalanceGFlowNet(pf=model, prior_pf=prior.requires_grad_(False), init_logZ=0.0)
    residual = gflownet._compute_rtb_scores(env, trajectories).detach()
    loss = gflownet.loss(env, trajectories)
    loss.backward()
    gradient, log_reward = model.module.joint_model.model[-1].weight.grad, trajectories.log_rewards
    return {
        "log_ratio_largest": float(shared["log_ratio"].abs().max()),
        "log_ratio_error": float((residual + log_reward - shared["log_ratio"]).abs().max()),
        "log_reward_error": float((log_reward - shared["log_reward"]).abs().max()),
        "loss": float(shared["loss"]),
        "loss_relative_error": float((loss.detach() / shared["loss"] - 1).abs()),
        "gradient_relative_error": float((gradient - shared["gradient_of_out"]).norm() / gradient.norm()),
    }


def main() -> None:
    """Reads the options, measures and prints the JSON line."""
    parser = arguments(
        "torchgfn, relative trajectory balance of a diffusion: milliseconds per step", "finetuning", VARIANTS
    )
    parser.add_argument("--compare", metavar="FILE", help="compare with what Equipoise's worker wrote; time nothing")
    options = parser.parse_args()
    if options.compare:
        print(json.dumps(compare(options.compare)))
    else:
        run_worker(build, options, library="torchgfn", version=version())


if __name__ == "__main__":
    main()
