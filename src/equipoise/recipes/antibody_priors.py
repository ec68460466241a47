"""The prior of an antibody run: given, if it has not seen what the run is only judged on, else trained first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from equipoise.antibody.sampler import LoopSampler
from equipoise.recipes.antibody_configuration import Antibody
from equipoise.recipes.priors import of_prior, prior_state

if TYPE_CHECKING:
    from equipoise.recipes.runs import StoredRun


def loop_prior(config: Antibody, folder: Path | None, sampler: LoopSampler, test: Tensor) -> Mapping[str, Any] | None:
    """The network's state in the prior; None for a run that has none.

    Args:
        config: of the run.
        folder: of the run; None: a prior that is trained is kept nowhere.
        sampler: of the run.
        test: rows of its patches that the prior must not have seen.

    Raises:
        ValueError: the given run is no prior of this one.
    """
    if config.prior is None and config.mode == "diffusion":
        return None

    def fits(found: StoredRun) -> bool:
        prior, built = found.config, cast(Any, found.built)
        if not isinstance(prior, Antibody) or (prior.mode, prior.time_steps) != ("diffusion", config.time_steps):
            return False
        same = torch.equal(built.sampler.names, sampler.names)  # complexes and loops
        return same and not set(test.tolist()) & set(built.train.tolist())

    wanted = (
        f"with {config.time_steps} steps, of loops {' '.join(config.loops)} of the same complexes, --held-out "
        f"{config.held_out} or more: train one by --mode diffusion"
    )
    return prior_state(config.prior, folder, fits, wanted, lambda out: prior_configuration(config, out))


def prior_configuration(config: Antibody, out: Path | None) -> Antibody:
    """The run that trains a task's prior, in `out`."""
    return of_prior(config, out, mode="diffusion", shuffle=False)
