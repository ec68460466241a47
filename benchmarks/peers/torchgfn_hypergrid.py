"""Times torchgfn's trajectory balance on the hypergrid workload; run it with an interpreter that has torchgfn.

    python benchmarks/peers/torchgfn_hypergrid.py --regime long --steps 100

The network, the shared trunk and the optimiser's two parameter groups are those of torchgfn's own hypergrid example.
Three ways of getting log-probabilities with gradients are offered.  On-policy all three are correct: they give the same
loss, and the same gradient up to rounding.

- `recompute` (the default, the fastest): sampling without gradients, then one batched pass over all visited states;
- `outputs`: the network's outputs recorded while sampling, the distribution rebuilt once for all states;
- `logprobs`: recorded while sampling and reused by the loss, as in the example.

The example's clipping of gradients, its checks for finite values and its validation are left out.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from pathlib import Path

import torch
from gfn.estimators import DiscretePolicyEstimator
from gfn.gflownet import TBGFlowNet
from gfn.gym import HyperGrid
from gfn.preprocessors import KHotPreprocessor
from gfn.samplers import Sampler
from gfn.utils.modules import MLP
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import HYPERGRID, REGIMES, Built, arguments, run_worker


def build(regime: str, seed: int, *, variant: str, plain: bool) -> Built:
    """Sets up the environment, the two policies, the loss and the optimiser.

    variant: where the loss takes the forward log-probabilities from (see the head of this file).
    plain: leave PyTorch's defaults as the example has them; otherwise the two settings outside torchgfn that speed it
        up are made: no argument checks in torch.distributions, and Adam's fused kernel.
    """
    torch.manual_seed(seed)
    torch.distributions.Distribution.set_default_validate_args(plain)
    work = HYPERGRID
    r0, r1, r2 = work.rewards
    env = HyperGrid(
        ndim=work.dimensions,
        height=work.side,
        reward_fn_str="original",
        reward_fn_kwargs={"R0": r0, "R1": r1, "R2": r2},
        calculate_partition=False,
        store_all_states=False,
        debug=False,
        validate_modes=False,
    )
    encode = KHotPreprocessor(height=env.height, ndim=env.ndim)
    if encode.output_dim is None:
        raise RuntimeError("the preprocessor does not say how wide its output is")
    forward_net = MLP(encode.output_dim, env.n_actions, hidden_dim=work.hidden, n_hidden_layers=work.hidden_layers)
    backward_net = MLP(encode.output_dim, env.n_actions - 1, trunk=forward_net.trunk)
    with torch.no_grad():
        forward_net.last_layer.weight.zero_()
        forward_net.last_layer.bias.zero_()
        forward_net.last_layer.bias[-1] = REGIMES[regime].exit_bias  # the exit is the last action
    forward = DiscretePolicyEstimator(forward_net, env.n_actions, preprocessor=encode, is_backward=False)
    backward = DiscretePolicyEstimator(backward_net, env.n_actions, preprocessor=encode, is_backward=True)
    model = TBGFlowNet(pf=forward, pb=backward, init_logZ=0.0)
    sampler = Sampler(estimator=forward)
    optimiser = torch.optim.Adam(model.pf_pb_parameters(), lr=work.learning_rate, fused=None if plain else True)
    optimiser.add_param_group({"params": model.logz_parameters(), "lr": work.log_z_learning_rate})

    def set_learning_rates(policy: float, log_z: float) -> None:
        for group, rate in zip(optimiser.param_groups, (policy, log_z), strict=True):
            group["lr"] = rate

    def step() -> tuple[float, Tensor]:
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
        return loss.item(), trajectories.terminating_idx

    return Built(
        step=step,
        set_learning_rates=set_learning_rates,
        parameters=lambda: list(model.parameters()),
        settings=f"{variant}, {'PyTorch defaults' if plain else 'no argument checks, fused Adam'}, debug off",
    )


def main() -> None:
    """Reads the options, measures and prints the JSON line."""
    parser = arguments("torchgfn, trajectory balance on a hypergrid: milliseconds per training step")
    parser.add_argument("--variant", choices=("recompute", "outputs", "logprobs"), default="recompute")
    parser.add_argument("--plain", action="store_true", help="PyTorch's defaults, as in torchgfn's example")
    options = parser.parse_args()
    run_worker(
        functools.partial(build, variant=options.variant, plain=options.plain),
        options,
        library="torchgfn",
        version=importlib.metadata.version("torchgfn"),
    )


if __name__ == "__main__":
    main()
