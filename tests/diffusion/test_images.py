"""The network for images, the classifiers, and their reward."""

from __future__ import annotations

import pytest
import torch

from equipoise.contracts import check_sampler
from equipoise.diffusion.digits import (
    SHAPE,
    TARGETS,
    Judge,
    NoisedPerceptron,
    Perceptron,
    class_reward,
    images_and_labels,
    log_probability,
    split,
    train_classifier,
    train_noised,
)
from equipoise.diffusion.processes import cosine_schedule, variance_preserving
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.diffusion.unet import SmallUNet

PROCESS = variance_preserving(cosine_schedule(5), prediction="v_prediction")


def network(conditions: int = 0) -> SmallUNet:
    torch.manual_seed(0)
    found = SmallUNet(PROCESS, SHAPE, width=8, hidden=16, conditions=conditions)
    for parameter in found.parameters():  # blocks and output begin at 0
        torch.nn.init.normal_(parameter, std=0.1)
    return found


def test_the_images_sampler_holds_its_contract() -> None:
    prior = DiffusionSampler(PROCESS, SmallUNet(PROCESS, SHAPE, width=8, hidden=16), SHAPE).frozen()
    check_sampler(DiffusionSampler(PROCESS, network(), SHAPE, prior=prior), n=6)


def test_one_step_for_all_rows_is_that_step_for_each_row() -> None:
    state = torch.randn(12, *SHAPE, generator=torch.Generator().manual_seed(1))
    one = network()(state, torch.tensor(3), None)
    assert float(one.detach().abs().max()) > 0.01
    assert torch.allclose(one, network()(state, torch.full((12,), 3), None), atol=1e-6)
    assert not torch.allclose(one, network()(state, torch.tensor(2), None), atol=1e-3)


def test_a_condition_moves_the_output_of_its_own_row_alone() -> None:
    state, condition = torch.zeros(4, *SHAPE), torch.zeros(4, 3)
    changed = condition.clone()
    changed[2] = 1.0
    first, second = (network(3)(state, torch.tensor(0), given) for given in (condition, changed))
    assert (first != second).flatten(1).any(1).tolist() == [False, False, True, False]


def test_what_the_network_does_not_take_is_an_error() -> None:
    with pytest.raises(ValueError, match="even sides"):
        SmallUNet(PROCESS, (1, 7, 8))
    with pytest.raises(ValueError, match="states"):
        network()(torch.zeros(2, 1, 6, 6), torch.tensor(0), None)
    with pytest.raises(ValueError, match="0 features of a condition and was given some"):
        network()(torch.zeros(2, *SHAPE), torch.tensor(0), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="3 features of a condition and was given none"):
        network(3)(torch.zeros(2, *SHAPE), torch.tensor(0), None)


def test_no_image_is_both_trained_on_and_held_out() -> None:
    rows, held = split()
    assert torch.equal(torch.cat([rows, held]).sort()[0], torch.arange(1797))
    images, labels = images_and_labels()
    assert images.min() == -1 and images.max() == 1 and set(labels.tolist()) == set(range(10))


def test_the_reward_is_finite_and_exact_however_sure_the_classifier_is() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0], [-1e30, 0.0, 1.0]])
    found = log_probability(logits, [0, 2])
    exact = torch.log_softmax(logits.double(), 1)[:, [0, 2]].exp().sum(1).log()
    assert found.dtype == torch.float32 and torch.isfinite(found).all()
    assert torch.allclose(found.double(), exact, atol=1e-6)
    assert log_probability(torch.tensor([[0.0, 1e4]]), [0]).item() == -1e4
    for classes in ([], [3], [-1]):
        with pytest.raises(ValueError, match="classes"):
            log_probability(logits, classes)


def test_a_reward_takes_images_alone_and_leaves_no_gradient() -> None:
    reward = class_reward(Perceptron(), TARGETS["even"])
    with pytest.raises(ValueError, match="images"):
        reward(torch.zeros(2, 64), None)
    assert not reward(torch.zeros(2, *SHAPE, requires_grad=True), None).requires_grad


def test_a_classifier_is_a_function_of_its_seeds_and_learns() -> None:
    logits = []
    for _ in range(2):
        torch.manual_seed(3)
        classifier = Perceptron()
        train_classifier(classifier, seed=3, epochs=1)
        logits.append(classifier(images_and_labels()[0][:20]))
    assert torch.equal(*logits)
    assert not logits[0].requires_grad
    assert train_classifier(Perceptron(), seed=3) > 0.95


def test_the_judge_and_the_classifier_of_noised_images_learn_too() -> None:
    torch.manual_seed(0)
    judge, noised = Judge(), NoisedPerceptron(PROCESS)
    assert train_classifier(judge, seed=0, epochs=2) > 0.5
    assert judge.embed(torch.zeros(3, *SHAPE)).shape == (3, judge.features)
    assert train_noised(noised, PROCESS, seed=0, epochs=12) > 0.8
    images, labels = images_and_labels()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    accuracy = (noised(noise, torch.tensor(0)).argmax(1) == labels).float().mean()
    assert accuracy < 0.2  # state 0 is noise: there is nothing to see
