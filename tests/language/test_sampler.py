"""The language model as a sampler: the contract, cached draws against full passes, stops, keeping, temperatures."""

from __future__ import annotations

import pytest
import torch

from equipoise.contracts import Behaviour, check_sampler
from equipoise.language import sampler as sampler_module
from equipoise.language.sampler import LanguageModel
from equipoise.trajectories import Trajectories
from language.small import column, digits_sampler, generator, listed_sampler, one_prompt, questions

ALL = frozenset({"log_pf", "log_prior", "entropy", "kl_prior"})


def drawn(sampler: LanguageModel, n: int = 24, **settings: object) -> Trajectories:
    return sampler.sample(n, context=questions(n), generator=generator(1), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_language_model_keeps_the_contract(temperature: float) -> None:
    sampler = digits_sampler(temperature=temperature)
    with torch.no_grad():
        for parameter in sampler.network.parameters():
            parameter.add_(0.01)  # so that the model and its reference differ
    check_sampler(sampler, n=12, context=questions(12), group=torch.arange(12))


def test_cached_generation_has_the_log_probabilities_of_one_full_pass() -> None:
    sampler = digits_sampler(most=8)
    rows = drawn(sampler, 48)
    assert len(rows.length.unique()) >= 4, "responses should end at different lengths"
    assert (rows.length == 8).any() and (rows.length < 8).any()
    causal = sampler.model
    for row in range(len(rows)):
        size, length = int(column(rows, "prompt_length")[row]), int(rows.length[row])
        prompt = column(rows, "prompt")[row, :size]
        response = rows.path["token"][row, :length]
        with torch.no_grad():
            logits = causal(input_ids=torch.cat([prompt, response])[None]).logits[0, size - 1 : -1]
        whole = logits.log_softmax(1).gather(1, response[:, None])[:, 0]
        cached = rows.fixed["log_behaviour"].value[row, :length]
        torch.testing.assert_close(cached, whole, atol=1e-4, rtol=0)
        scored = sampler.score(rows, frozenset({"log_pf"})).get("log_pf")[row, :length].detach()
        torch.testing.assert_close(scored, whole, atol=1e-4, rtol=0)


def test_a_stop_token_is_a_responses_last_and_counts() -> None:
    sampler = digits_sampler(most=8)
    rows = drawn(sampler, 48)
    inside = torch.arange(rows.steps) < rows.length[:, None]
    stop = (rows.path["token"] == sampler.stops[0]) & inside
    ended = rows.length < 8
    assert ended.any()
    assert (stop.sum(1)[ended] == 1).all()
    assert (rows.path["token"][ended].gather(1, rows.length[ended, None] - 1)[:, 0] == sampler.stops[0]).all()


def test_tokens_are_drawn_by_the_models_own_probabilities() -> None:
    sampler = listed_sampler()
    n = 20_000
    token = sampler.sample(n, context=one_prompt(n), generator=generator(3)).path["token"]
    with torch.no_grad():
        probability = sampler.model(input_ids=torch.tensor([[1]])).logits[0, -1].softmax(0)
    frequency = token[:, 0].bincount(minlength=4) / n
    # Five standard deviations of a frequency.
    assert ((frequency - probability).abs() < 5 * (probability * (1 - probability) / n).sqrt()).all()


def test_exploration_is_in_the_behaviour_and_not_in_the_score() -> None:
    sampler = digits_sampler()
    plain = drawn(sampler, 24)
    bold = drawn(sampler, 24, behaviour=Behaviour(epsilon=0.5, temperature=2.0))
    scores = sampler.score(bold, frozenset({"log_pf"})).get("log_pf")
    mask = torch.arange(bold.steps) < bold.length[:, None]
    difference = (bold.fixed["log_behaviour"].value - scores)[mask].abs()
    assert difference.max() > 0.1
    near = sampler.score(plain, frozenset({"log_pf"})).get("log_pf")
    torch.testing.assert_close(plain.fixed["log_behaviour"].value, near.detach(), atol=1e-4, rtol=0)


def test_kept_tokens_stay_and_the_rest_is_drawn_anew() -> None:
    sampler = digits_sampler(most=8)
    start = drawn(sampler, 24)
    keep = torch.minimum(start.length, torch.arange(24) % 4)
    again = sampler.sample(24, context=start.context, start=start, keep=keep, generator=generator(9))
    for row, kept in enumerate(keep.tolist()):
        assert torch.equal(again.path["token"][row, :kept], start.path["token"][row, :kept])
    score = sampler.score(again, frozenset({"log_pf"})).get("log_pf").detach()
    torch.testing.assert_close(again.fixed["log_behaviour"].value, score, atol=1e-4, rtol=0)
    assert not torch.equal(again.path["token"][:, : start.steps], start.path["token"])


def test_the_temperature_divides_the_logits_of_policy_and_reference() -> None:
    warm, plain = digits_sampler(temperature=0.5), digits_sampler()
    rows = drawn(plain)
    found = warm.score(rows, ALL)
    size = int(column(rows, "prompt_length")[0])
    given = torch.cat([column(rows, "prompt")[0, :size], rows.path["token"][0]])[None]
    with torch.no_grad():
        logits = plain.model(input_ids=given).logits[0, size - 1] / 0.5
    first = logits.log_softmax(0)[rows.path["token"][0, 0]]
    torch.testing.assert_close(found.get("log_pf")[0, 0].detach(), first, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.get("log_prior")[0, 0], first, atol=1e-5, rtol=0)


def test_slices_of_logits_change_neither_scores_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = digits_sampler()
    with torch.no_grad():
        for parameter in sampler.network.parameters():
            parameter.add_(0.02)
    rows = drawn(sampler)
    weights = torch.rand((len(rows), rows.steps), generator=generator())

    def gradient() -> list[torch.Tensor]:
        scores = sampler.score(rows, ALL)
        value = sum((weights * scores.get(name)).sum() for name in ("log_pf", "entropy", "kl_prior"))
        parameters = [entry for entry in sampler.network.parameters() if entry.requires_grad]
        return list(torch.autograd.grad(value, parameters))  # type: ignore[arg-type]

    whole = gradient()
    monkeypatch.setattr(sampler_module, "SLICE", 7 * sampler.network.vocabulary)
    for sliced, expected in zip(gradient(), whole, strict=True):
        torch.testing.assert_close(sliced, expected, atol=1e-4, rtol=1e-4)


def test_entropy_and_kl_are_those_of_the_whole_vocabulary() -> None:
    sampler = listed_sampler(dtype=torch.float64)
    with torch.no_grad():
        for parameter in sampler.network.parameters():
            parameter.add_(0.05)
    rows = sampler.sample(8, context=one_prompt(8), generator=generator())
    scores = sampler.score(rows, ALL)
    frozen = listed_sampler(dtype=torch.float64)
    given = torch.cat([torch.ones(8, 1, dtype=torch.int64), rows.path["token"][:, :-1]], 1)
    with torch.no_grad():
        policy = sampler.model(input_ids=given).logits.log_softmax(2)
        prior = frozen.model(input_ids=given).logits.log_softmax(2)
    torch.testing.assert_close(scores.get("entropy"), -(policy.exp() * policy).sum(2))
    torch.testing.assert_close(scores.get("kl_prior"), (policy.exp() * (policy - prior)).sum(2))
    expected = prior.gather(2, rows.path["token"][:, :, None])[:, :, 0]
    torch.testing.assert_close(scores.get("log_prior"), expected, atol=1e-9, rtol=0)


def test_after_a_reset_stored_rows_score_as_with_fresh_reference_log_probabilities() -> None:
    sampler = digits_sampler()
    stored = sampler.renew(drawn(sampler))
    first = stored.fixed["log_prior"]
    with torch.no_grad():
        for parameter in sampler.network.parameters():
            parameter.add_(0.05)
    torch.testing.assert_close(sampler.score(stored, ALL).get("log_prior"), first.value)
    sampler.reset_reference()
    renewed = sampler.renew(stored).fixed["log_prior"]
    bare = Trajectories(**{**vars(stored), "fixed": {}})
    fresh = sampler.score(bare, ALL)
    assert (renewed.version == 1).all() and (first.version == 0).all()
    torch.testing.assert_close(renewed.value, fresh.get("log_prior"))
    torch.testing.assert_close(renewed.value, fresh.get("log_pf").detach())
    assert not torch.allclose(renewed.value, first.value, atol=1e-2)


def test_prompts_that_cannot_be_answered_are_refused() -> None:
    sampler = digits_sampler(most=30)
    with pytest.raises(ValueError, match=r"prompt 3 has 7 tokens.*window of 32"):
        drawn(sampler, 6)
    empty = {"prompt": torch.zeros((2, 1), dtype=torch.int64), "prompt_length": torch.tensor([1, 0])}
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        digits_sampler().sample(2, context=empty, generator=generator())
    with pytest.raises(ValueError, match="needs prompts"):
        digits_sampler().sample(2, generator=generator())
    with pytest.raises(ValueError, match="one prompt a response"):
        digits_sampler().sample(3, context=questions(2), generator=generator())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"stops": ()}, "no stop token"),
        ({"stops": (99,)}, "outside the vocabulary"),
        ({"most": 0}, "at least one token"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], why: str) -> None:
    model = digits_sampler().model
    with pytest.raises(ValueError, match=why):
        LanguageModel(model, **{"stops": (1,), "most": 4, **settings})  # type: ignore[arg-type]
