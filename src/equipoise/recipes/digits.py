"""The digits task: a convolutional prior on real images, tuned to what a classifier says of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.diffusion import digits as images
from equipoise.diffusion.guidance import Guided, classifier_guidance, posterior_sampling
from equipoise.diffusion.image_judge import ImageJudge
from equipoise.diffusion.processes import Process, cosine_schedule, variance_preserving
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.diffusion.soft_value import SoftValue, fit_soft_value
from equipoise.diffusion.steering import Steered
from equipoise.diffusion.unet import SmallUNet
from equipoise.recipes.configuration import GUIDANCE
from equipoise.recipes.diffusion import as_text, join, take_prior
from equipoise.recipes.digits_configuration import Digits
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.sampling.given import Data
from equipoise.sampling.rollouts import rewarded
from equipoise.training.loop import Run

CLASSIFIER_SEED, JUDGE_SEED, NOISED_SEED = 0, 101, 7
"""Of the classifiers: they are part of the task, the same whatever the run's seed."""

SMOOTHING = 0.05
"""Of the labels of the classifier that rewards."""

VALUE_SEED = 11
"""Of the soft value that tuning begins with, which is part of the task too."""

VALUE_BATCH = 1000
"""Images of the prior drawn at a time; the soft value is fitted to one for each of its steps."""

EARLY, LATE = 0.5, 2.5
"""Strength of the first step's steering and of the last's, measured with 25 steps: more than 1 early draws classes that
are far from the unwanted ones, more than 1 late only puts right what long steps leave between classes."""


@dataclass(frozen=True)
class ImagesRun:
    """A run on images, and what its task is made of.

    The classifiers are trained before the first step, in seconds, and saved in every checkpoint: an opened run is
    rewarded and judged by the same numbers, on any machine. A run with `--prior` takes them from there. So is the soft
    value that steers what is tuned, in minutes.
    """

    config: Digits
    run: Run
    sampler: DiffusionSampler | Guided
    network: SmallUNet
    reward: Reward
    classifier: images.Perceptron
    noised: images.NoisedPerceptron
    judge: ImageJudge
    value: SoftValue | None

    @property
    def process(self) -> Process:
        """The diffusion's."""
        model = self.sampler if isinstance(self.sampler, DiffusionSampler) else self.sampler.prior
        return model.process

    def check(self) -> None:
        """Calls the reward on real images, so that a wrong one is found before anything is written."""
        rewarded(self.reward, self.judge.images[:64], None, 64)

    def prepare(self, folder: Path | None) -> None:
        """Takes the prior and the classifiers, or trains them."""
        plain = DiffusionSampler(self.process, self.network, images.SHAPE, prior=self.sampler.prior)
        take_prior(plain, self.config, folder)
        prior = self.config.prior if folder is None or self.config.prior is not None else folder / "prior"
        if prior is None or not prior.exists() or not self._classifiers_of(prior):
            images.train_classifier(self.classifier, seed=CLASSIFIER_SEED, smoothing=SMOOTHING)
            images.train_classifier(self.judge.judge, seed=JUDGE_SEED, epochs=20)
            images.train_noised(self.noised, self.process, seed=NOISED_SEED)
        if self.value is not None and self.sampler.prior is not None:
            self._fit(self.value, self.sampler.prior)

    def evaluate(self) -> dict[str, float]:
        """Sampled figures of the sampler as it is now."""
        return self.run.evaluate()

    def summary(self) -> list[str]:
        """What matters of the figures, in words."""
        found = self.evaluate()
        lines = [f"Frechet distance {found['frechet']:.2f} (a perfect sampler: {found['frechet_floor']:.2f})"]
        if "class_factor" not in found:
            return lines
        return [
            f"{100 * found['judged_in_target']:.1f} % {self.config.target} by a classifier that the sampler never saw "
            f"(prior x R^{self.config.beta:g}: {100 * found['target_judged_in_target']:.1f} %)",
            f"every class within a factor of {found['class_factor']:.2f} of its share there",
            f"{lines[0]}; the prior's, to all digits, {found['prior_frechet']:.2f}",
        ]

    def table(self, n: int, generator: torch.Generator) -> str:
        """n images drawn on-policy, as tab-separated text: object (64 pixels), log_reward, the digit by the judge."""
        drawn = self.sampler.sample(n, generator=generator).objects
        assert isinstance(drawn, Tensor)
        with torch.no_grad():
            digit = self.judge.judge(drawn).argmax(1).tolist()
        columns = zip(as_text(drawn), self.reward(drawn, None).tolist(), digit, strict=True)
        lines = [f"{shown}\t{value:.6g}\t{judged}" for shown, value, judged in columns]
        return "\n".join(["object\tlog_reward\tdigit", *lines, ""])

    def _fit(self, value: SoftValue, prior: DiffusionSampler) -> None:
        steps, noise = self.config.value_steps, torch.Generator().manual_seed(VALUE_SEED)
        objects = torch.cat([_objects(prior, VALUE_BATCH, noise) for _ in range(max(1, steps // VALUE_BATCH))])
        log_reward = self.config.beta * self.reward(objects, None)
        fit_soft_value(value, self.process, objects, log_reward, seed=VALUE_SEED, steps=steps)

    def _classifiers_of(self, prior: Path) -> bool:
        from equipoise.recipes.runs import open_run  # which builds runs by this file

        stored = open_run(prior)
        if not isinstance(stored.built, ImagesRun) or not stored.folder.begun:
            return False
        self.classifier.load_state_dict(stored.built.classifier.state_dict())
        self.judge.judge.load_state_dict(stored.built.judge.judge.state_dict())
        self.noised.load_state_dict(stored.built.noised.state_dict())
        return True


def digits(config: Digits, reward: Callable[..., Tensor] | None = None) -> ImagesRun:
    """A run on the digits.

    What is tuned begins as the prior, steered by the soft value of its noised images (`Steered`, with `--scale`; 0: as
    the prior itself).

    Source: Venkatraman et al., 2024, arXiv 2405.20971, section 3.1 (even digits of MNIST by a classifier); DDPM with
        the cosine schedule, v-prediction and the posterior's variance, whose last step has no noise and is the prior's
        for every model tuned from it.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: choices that do not fit together.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    process = variance_preserving(cosine_schedule(config.time_steps), prediction="v_prediction")
    network = SmallUNet(process, images.SHAPE)
    classifiers = _classifiers(process)
    classifier, noised, judging = classifiers
    classes = images.TARGETS.get(config.target, tuple(range(images.CLASSES)))
    score = _reward(config, reward, classifier)
    prior = None if config.method == "likelihood" else DiffusionSampler(process, network, images.SHAPE).frozen()

    def noised_log_reward(state: Tensor, place: Tensor) -> Tensor:
        return images.log_probability(noised(state, place), classes)

    steered = config.scale > 0 and prior is not None and config.method not in GUIDANCE
    value = _value(process) if steered else None
    strength = (EARLY * config.scale, LATE * config.scale)
    sampler: DiffusionSampler | Guided = DiffusionSampler(
        process,
        network if value is None else Steered(network, process, value, strength),
        images.SHAPE,
        prior=prior,
        subsample=config.subsample,
        keep_behaviour=config.method in ("reinforce_weighted", "ppo"),
    )
    pixels, labels = images.images_and_labels()
    if config.method == "likelihood":
        classes = tuple(range(images.CLASSES))
    judges: list[ImageJudge] = []

    def evaluate(log_z: Callable[[], float] | None) -> Callable[[], dict[str, float]]:
        judges.append(
            ImageJudge(
                sampler,
                judging,
                pixels,
                labels,
                classes=classes,
                prior=prior,
                reward=score,
                beta=config.beta,
                log_z=log_z,
            )
        )
        return judges[0].figures

    if config.method in GUIDANCE:
        assert prior is not None
        sampler = _guided(config, prior, classifier, noised_log_reward, classes)
        run = _untrained(config, sampler, evaluate(None))
    else:
        run = join(config, sampler, score, data=Data(pixels), evaluate=evaluate)
    kept = {"classifier": classifier, "noised": noised, "judge": judging}
    run = dataclasses.replace(
        run,
        modules={**run.modules, **kept},
        learning_rate={**run.learning_rate, **dict.fromkeys(kept, lambda step: 0.0)},
    )
    return ImagesRun(config, run, sampler, network, score, classifier, noised, judges[0], value)


def _classifiers(process: Process) -> tuple[images.Perceptron, images.NoisedPerceptron, images.Judge]:
    """Untrained and frozen, from seeds of their own."""
    state = torch.get_rng_state()
    torch.manual_seed(CLASSIFIER_SEED)
    classifier = images.Perceptron()
    torch.manual_seed(JUDGE_SEED)
    judge = images.Judge()
    torch.manual_seed(NOISED_SEED)
    noised = images.NoisedPerceptron(process)
    torch.set_rng_state(state)
    for network in (classifier, noised, judge):
        network.eval().requires_grad_(False)
    return classifier, noised, judge


def _value(process: Process) -> SoftValue:
    """Unfitted and frozen, from a seed of its own."""
    state = torch.get_rng_state()
    torch.manual_seed(VALUE_SEED)
    value = SoftValue(process, math.prod(images.SHAPE))
    torch.set_rng_state(state)
    value.eval().requires_grad_(False)
    return value


def _objects(prior: DiffusionSampler, n: int, noise: torch.Generator) -> Tensor:
    drawn = prior.sample(n, generator=noise).objects
    assert isinstance(drawn, Tensor)
    return drawn


def _reward(config: Digits, given: Callable[..., Tensor] | None, classifier: images.Perceptron) -> Reward:
    if given is not None:
        return wrapped(given)
    if ":" in config.target:
        return own_reward(config.target)
    return images.class_reward(classifier, images.TARGETS[config.target])


def _guided(
    config: Digits,
    prior: DiffusionSampler,
    classifier: images.Perceptron,
    noised: Callable[[Tensor, Tensor], Tensor],
    classes: tuple[int, ...],
) -> Guided:
    def of_state(state: Tensor, place: Tensor) -> Tensor:
        return config.beta * noised(state, place)

    def of_object(objects: Tensor) -> Tensor:
        return config.beta * images.log_probability(classifier(objects), classes)

    def draw(n: int, noise: torch.Generator) -> Tensor:
        if config.method == "dps":
            return posterior_sampling(prior, n, of_object, scale=config.scale, generator=noise)
        return classifier_guidance(prior, n, of_state, scale=config.scale, generator=noise)

    return Guided(prior, draw)


def _untrained(config: Digits, sampler: Guided, figures: Callable[[], dict[str, float]]) -> Run:
    """A run of no terms: its steps change nothing."""
    return Run(
        modules={"policy": sampler},
        learning_rate={"policy": lambda step: 0.0},
        terms=(),
        sources={},
        batch={},
        steps=config.steps,
        seed=config.seed,
        evaluate=figures,
    )
