"""The sampler of loops: the contract, drawn against scored, invariance, and what the encoder must not see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from antibody import small
from equipoise.antibody.geometry import exponential
from equipoise.antibody.networks import time_features
from equipoise.antibody.patches import cut
from equipoise.antibody.process import loop_process
from equipoise.antibody.sampler import LoopNetwork, LoopSampler
from equipoise.contracts import Behaviour, check_sampler
from equipoise.trajectories import Trajectories, ends

ROWS = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0])


def drawn(sampler: LoopSampler, seed: int = 0) -> Trajectories:
    return sampler.sample(len(ROWS), context=ROWS, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("prior", "subsample"), [(False, None), (True, None), (True, 2)])
def test_the_sampler_keeps_the_contract(prior: bool, subsample: int | None) -> None:
    check_sampler(small.sampler(prior, subsample=subsample), context=ROWS, group=ROWS)


@pytest.mark.parametrize("moving", [("letter",), ("position", "rotation")])
def test_what_does_not_move_stays_native_and_has_no_density(moving: tuple[str, ...]) -> None:
    sampler = small.sampler(moving=moving)
    check_sampler(sampler, context=ROWS, group=ROWS)
    rows = drawn(sampler)
    for name, native in sampler.patches.native().items():
        same = (rows.path[name] == native[ROWS][:, None]).all()
        assert bool(same) == (name not in moving)


def test_what_is_kept_of_a_path_begins_with_its_first_state_which_is_drawn_in_the_first_step() -> None:
    sampler, keep = small.sampler(), torch.tensor([0, 1, 2, 5, 0, 1, 2, 5])
    start = drawn(sampler)
    again = sampler.sample(len(ROWS), context=ROWS, start=start, keep=keep, generator=torch.Generator().manual_seed(1))
    place, old = again.path["position"], start.path["position"]
    for row, kept in enumerate(keep.tolist()):
        same = (place[row] == old[row]).flatten(1).all(1).tolist()
        assert same == [kept > 0 and state <= kept for state in range(6)]


def test_a_checkpoint_of_letters_heads_that_meant_something_else_is_refused() -> None:
    sampler = small.sampler()
    state = {name.replace("denoiser.logits", "denoiser.letters"): one for name, one in sampler.state_dict().items()}
    with pytest.raises(RuntimeError, match="older version"):
        sampler.load_state_dict(state)


def test_drawn_log_probabilities_are_those_of_the_step_s_own_draw() -> None:
    """Independently of `score`: positions drawn by a mean and a standard deviation have that normal's density."""
    sampler = small.sampler(moving=("position",))
    rows = drawn(sampler)
    scored = sampler.score(rows, frozenset({"log_pf"})).get("log_pf")
    process, total = sampler.process.position, torch.zeros(len(ROWS))
    for place, row in enumerate(ROWS.tolist()):
        context = sampler.network.encoder(sampler.patches, row)
        size = context.residues
        for step in range(process.steps):
            now, after = (rows.path["position"][place, step + more, :size] for more in (0, 1))
            native = sampler.patches.native()
            time = time_features(
                torch.tensor([step]), process.steps, (sampler.process.kept * sampler.process.keep)[step][None]
            )
            with torch.no_grad():
                velocity, _, _ = sampler.network.denoiser(
                    context, native["letter"][row, None, :size], now[None], native["rotation"][row, None, :size], time
                )
            mean = float(process.keep[step]) * now + float(process.gain[step]) * velocity[0]
            total[place] += torch.distributions.Normal(mean, float(process.std[step])).log_prob(after).sum()
        start = rows.path["position"][place, 0, :size]
        total[place] += torch.distributions.Normal(0.0, 1.0).log_prob(start).sum()
    assert torch.allclose(scored.sum(1), total, rtol=1e-4, atol=1e-2)


def test_with_the_prior_s_own_weights_the_relative_log_ratio_is_zero() -> None:
    sampler = LoopSampler(loop_process(4), small.network(), small.patches(), prior=small.network())
    scores = sampler.score(drawn(sampler), frozenset({"log_pf", "log_prior"}))
    assert torch.allclose(scores.get("log_pf"), scores.get("log_prior"), atol=1e-4)


def test_the_gradient_of_a_subsample_is_unbiased() -> None:
    whole, part = small.sampler(steps=3), small.sampler(steps=3, subsample=1)
    rows = drawn(whole)

    def gradient(sampler: LoopSampler, seed: int) -> torch.Tensor:
        sampler.zero_grad()
        generator = torch.Generator().manual_seed(seed)
        sampler.score(rows, frozenset({"log_pf"}), generator=generator).get("log_pf")[:1].sum().backward()
        grad = sampler.network.denoiser.logits.weight.grad
        assert grad is not None
        return grad.clone()

    # A single row has three subsets of one step; many seeds meet each of them, and each distinct one counts once.
    distinct = {tuple(each.flatten().tolist()[:50]): each for each in (gradient(part, seed) for seed in range(40))}
    assert len(distinct) == 3
    assert torch.allclose(torch.stack(list(distinct.values())).mean(0), gradient(whole, 0), rtol=1e-3, atol=1e-4)


def test_scores_are_invariant_and_outputs_turn_with_the_complex() -> None:
    sampler = small.sampler(prior=True)
    rows = drawn(sampler)
    turn, shift = small.rotation_and_shift()
    other = sampler.on(sampler.patches.moved(turn, shift))
    path = {
        "letter": rows.path["letter"],
        "position": rows.path["position"] @ turn.T,
        "rotation": turn @ rows.path["rotation"],
    }
    moved = replace(rows, path=path, objects={name: value[:, -1] for name, value in path.items()})
    for name in ("log_pf", "log_pb", "log_prior"):
        first, second = (
            one.score(record, frozenset({name})).get(name) for one, record in ((sampler, rows), (other, moved))
        )
        assert torch.allclose(first, second, rtol=1e-4, atol=1e-3), name
    here, there = (one.network.encoder(one.patches, 0) for one in (sampler, other))
    assert torch.allclose(here.node, there.node, atol=1e-4)
    size, time = here.residues, time_features(torch.tensor([2]), 5, torch.tensor([0.5]))

    def outputs(context: object, record: Trajectories) -> tuple[torch.Tensor, ...]:
        states = [record.path[name][0, 2, None, :size] for name in ("letter", "position", "rotation")]
        return sampler.network.denoiser(context, *states, time)

    with torch.no_grad():
        velocity, rotation, letter = outputs(here, rows)
        turned_velocity, turned_rotation, same = outputs(there, moved)
    assert torch.allclose(velocity @ turn.T, turned_velocity, atol=1e-4)
    assert torch.allclose(turn @ rotation, turned_rotation, atol=1e-4)
    assert torch.allclose(letter, same, atol=1e-4)


def test_the_encoder_does_not_see_the_native_loop() -> None:
    """Its letters, atoms and even its place: all that is known of it is its length."""
    made = small.structure()
    start, end = made.loops["H3"]
    letters, atoms = made.letters.clone(), made.atoms.clone()
    letters[start:end] = (letters[start:end] + 7) % 20
    turn = exponential(torch.tensor([0.5, 1.0, -0.3]))
    atoms[start:end] = atoms[start:end] @ turn.T + torch.tensor([5.0, -9.0, 2.0])
    encoder = small.network().encoder
    first, second = (
        encoder(cut([one], antibody=10, antigen=10), 0) for one in (made, replace(made, letters=letters, atoms=atoms))
    )
    assert torch.equal(first.node, second.node) and torch.equal(first.position, second.position)
    assert torch.equal(first.anchors, second.anchors) and torch.equal(first.gap, second.gap)


def test_the_default_networks_have_less_than_a_million_parameters() -> None:
    assert sum(value.numel() for value in LoopNetwork().parameters()) < 500_000


def test_denoising_trains_towards_the_native_loop() -> None:
    sampler = LoopSampler(loop_process(6), small.network(spread=0.0), small.patches())
    optimiser = torch.optim.Adam(sampler.parameters(), 5e-3)
    rows = torch.arange(3).repeat(4)
    natives = ends({name: value[rows] for name, value in sampler.patches.native().items()}, context=rows, group=rows)
    generator, values = torch.Generator().manual_seed(0), []
    for _ in range(60):
        optimiser.zero_grad()
        value = sampler.score(natives, frozenset({"denoising"}), generator=generator).get("denoising").mean()
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert sum(values[-10:]) < 0.75 * sum(values[:10])


def test_what_a_sampler_cannot_honour_is_refused() -> None:
    sampler, generator = small.sampler(), torch.Generator()
    with pytest.raises(ValueError, match="not by temperature"):
        sampler.sample(2, context=ROWS[:2], behaviour=Behaviour(temperature=2.0), generator=generator)
    with pytest.raises(ValueError, match="2 rows of the patches"):
        sampler.sample(2, generator=generator)
    with pytest.raises(ValueError, match="there are 3 patches"):
        sampler.sample(2, context=torch.tensor([0, 3]), generator=generator)
    with pytest.raises(ValueError, match="moving is"):
        LoopSampler(loop_process(4), small.network(), small.patches(), moving=("atoms",))
    state = sampler.state_dict()
    with pytest.raises(RuntimeError, match="other complexes"):
        LoopSampler(loop_process(5), small.network(), small.patches(2)).load_state_dict(state)
