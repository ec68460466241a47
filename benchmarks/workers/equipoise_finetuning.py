"""Times Equipoise's relative trajectory balance on the fine-tuning workload.

    python benchmarks/workers/equipoise_finetuning.py --steps 20
    python benchmarks/workers/equipoise_finetuning.py --export shared.pt

`benchmarks/speed.py` runs it in turn with the peer's worker. With `--export` nothing is timed: weights, paths and what
this library says of them are written for the peer's worker to compare.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, NotAvailable, arguments, run_worker
from workers.equipoise_loop import VARIANTS, built, version
from workloads import Finetuning

WORK = Finetuning()


def log_reward(objects: Tensor) -> Tensor:
    """log of the nine modes' density over that of the 25."""
    work = WORK
    grid = torch.cartesian_prod(torch.tensor(work.spacing), torch.tensor(work.spacing))
    nine = torch.tensor(work.modes)

    def log_mixture(centres: Tensor, weights: Tensor) -> Tensor:
        """Up to the normalisation that both mixtures share."""
        exponent = -0.5 * torch.cdist(objects, centres).square() / work.variance_of_modes
        return torch.logsumexp(exponent + weights.log(), 1)

    return log_mixture(nine[:, :2], nine[:, 2] / nine[:, 2].sum()) - log_mixture(grid, torch.full((25,), 1 / 25))


def network(steps: int, times: Tensor) -> nn.Module:
    """The drift of a process of `steps` steps at `times`, with an output layer that is not 0."""
    from equipoise.diffusion.networks import DriftMLP, StepFeatures
    from equipoise.diffusion.processes import brownian

    drift = DriftMLP(brownian(steps, WORK.variance), 2, WORK.width)
    drift.time = StepFeatures(times, WORK.width)
    nn.init.normal_(drift.out.weight, std=WORK.out_std)
    return drift


def build(work: Finetuning, options: argparse.Namespace) -> Built:
    """Sets up the workload: paths with exploration, one scoring, one Adam step of relative trajectory balance."""
    from equipoise.contracts import Behaviour
    from equipoise.diffusion.processes import brownian
    from equipoise.diffusion.sampler import DiffusionSampler
    from equipoise.objectives import divergence
    from equipoise.objectives.partition import Learned
    from equipoise.sampling.rollouts import Rollouts
    from equipoise.training.balance import RESIDUALS, balance
    from equipoise.training.loop import Run

    if options.variant != "eager":
        raise NotAvailable("diffusion tasks have no option 'compile'")
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    process, times = brownian(work.steps, work.variance), torch.arange(work.steps) / work.steps
    prior = DiffusionSampler(process, network(work.steps, times), (2,)).frozen()
    sampler = DiffusionSampler(process, network(work.steps, times), (2,), prior=prior, subsample=work.subsample)
    log_z = Learned()
    rollouts = Rollouts(
        sampler, lambda objects, context: log_reward(objects), behaviour=lambda at: Behaviour(noise=work.exploration)
    )
    run = Run(
        modules={"policy": sampler.network, "log_z": log_z},
        learning_rate={name: lambda step: 0.0 for name in ("policy", "log_z")},
        terms=(balance("rtb", "rollouts", sampler, RESIDUALS["relative"], divergence("reverse_kl"), log_z),),
        sources={"rollouts": rollouts},
        batch={"rollouts": work.batch},
        steps=1,
        seed=options.seed,
    )
    count = sum(parameter.numel() for parameter in sampler.network.parameters())
    return built(run, work, f"eager; {count} parameters; gradients through {work.subsample or work.steps} steps")


def export(file: str) -> None:
    """Weights of a model and a prior, paths of one step fewer than the workload's, and their scores and gradients.

    The peer's last step of a path is its end, without noise: of 100 steps 99 are Gaussian.
    """
    from equipoise.contracts import Behaviour
    from equipoise.diffusion.processes import brownian
    from equipoise.diffusion.sampler import DiffusionSampler

    torch.manual_seed(0)
    work, steps = WORK, WORK.steps - 1
    dt = 1 / work.steps
    process, times = brownian(steps, work.variance, time=steps * dt), torch.arange(steps) * dt
    prior = DiffusionSampler(process, network(steps, times), (2,)).frozen()
    sampler = DiffusionSampler(process, network(steps, times), (2,), prior=prior)
    generator = torch.Generator().manual_seed(1)
    drawn = sampler.sample(work.batch, behaviour=Behaviour(noise=work.exploration), generator=generator)
    log_ratio = sampler.score(drawn, frozenset({"log_pf"})).get("log_pf").sum(1)
    reward = log_reward(drawn.path["state"][:, -1])
    loss = 0.5 * (log_ratio - reward).square().mean()
    loss.backward()
    shared = {f"prior.{name}": value for name, value in _as_the_peer_has_it(prior.network).items()}
    shared |= {f"model.{name}": value for name, value in _as_the_peer_has_it(sampler.network).items()}
    shared |= {"state": drawn.path["state"], "log_ratio": log_ratio.detach(), "log_reward": reward}
    shared |= {"loss": loss.detach(), "gradient_of_out": sampler.network.out.weight.grad}
    torch.save(shared, file)
    print(json.dumps({"loss": float(loss)}))


def _as_the_peer_has_it(drift: nn.Module) -> dict[str, Tensor]:
    """The same function in the peer's layers: two linear maps in a row are one, and no phases."""
    old, joined, by_time = drift.state, drift.join_state, drift.join_time.weight
    first, last = drift.time.layers[0], drift.time.layers[2]
    layers = {
        "s_model.s_model": (joined.weight @ old.weight, joined.weight @ old.bias + joined.bias),
        "t_model.t_model.0": (first.weight, first.bias),
        "t_model.t_model.2": (by_time @ last.weight, by_time @ last.bias),
        "joint_model.model.1": (drift.hidden[1].weight, drift.hidden[1].bias),
        "joint_model.model.3": (drift.out.weight, drift.out.bias),
    }
    named = {f"{name}.weight": weight.detach() for name, (weight, _) in layers.items()}
    named |= {f"{name}.bias": bias.detach() for name, (_, bias) in layers.items()}
    return named | {"t_model.timestep_phase": torch.zeros(1, first.weight.shape[1] // 2)}


def main() -> None:
    """Reads the options, measures and prints the JSON line."""
    parser = arguments(
        "Equipoise, relative trajectory balance of a diffusion: milliseconds per step", "finetuning", VARIANTS
    )
    parser.add_argument("--export", metavar="FILE", help="write what the peer's worker compares; time nothing")
    options = parser.parse_args()
    if options.export:
        export(options.export)
    else:
        run_worker(build, options, library="equipoise", version=version())


if __name__ == "__main__":
    main()
