"""A causal language model as a sampler: a trajectory is a response, a step is a token.

The model is pi(token | prompt, tokens before) = softmax(logits / temperature); a response's path is unique, so that
log_pb is 0 and the target is the reward, or the frozen reference times it. With an autoregressive model and the
reference as prior, relative trajectory balance with the log Z of each prompt's group is TBA.

Source: Bartoldson et al., 2025, "Trajectory Balance with Asynchrony: Decoupling Exploration and Learning for Fast,
Scalable LLM Post-Training", arXiv:2503.18929.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from equipoise.contracts import ON_POLICY, Behaviour, require_both, require_offered
from equipoise.language.generation import Responses, generate, join
from equipoise.language.network import Frozen, Network
from equipoise.sampling.fixed import renewed
from equipoise.trajectories import Columns, Fixed, Scores, Trajectories

SLICE = 2**24
"""Logits that lie in memory at a time while log-probabilities are taken: 64 MiB of float32."""

_Head = Callable[[Tensor], Tensor]


class LanguageModel(nn.Module):
    """Draws responses to prompts and scores them.

    The context is a dict with `prompt` (n, width) tokens, padded on the right, and `prompt_length` (n,); further
    columns (questions, answers) pass through to the reward. Objects are `{"token": (n, steps), "length": (n,)}`, 0
    beyond the length. A stop token belongs to the response; a response cut off at `most` tokens has none.

    The reference is a frozen copy of what is trained (with LoRA: of the adapters alone), so that a fresh sampler is its
    own prior. Its log-probabilities travel in `fixed["log_prior"]` with its version. What a response's tokens had
    under the policy that drew them travels in `fixed["log_behaviour"]`.

    Args:
        model: an `AutoModelForCausalLM`, or one with adapters of peft. Its dropout is switched off.
        stops: tokens that end a response, at least one.
        most: tokens of the longest response.
        temperature: divides the logits, in drawing and scoring, of policy and reference alike; > 0.
        prior: keep a reference; without one, `log_prior` is not offered and the target is the reward alone.
        bf16: run the model under autocast to bfloat16.

    Raises:
        ValueError: no stop token, one outside the vocabulary, `most` below 1, a temperature that is not positive; in
            `sample`, prompts that are missing, empty, or too long for the model's window.

    Example:
        >>> from equipoise.language.tiny import character_tokenizer, prompts, tiny_model
        >>> tokenizer = character_tokenizer("0123456789+=")
        >>> sampler = LanguageModel(tiny_model(tokenizer), stops=(tokenizer.eos_token_id,), most=4)
        >>> context = prompts(tokenizer, ["1+2=", "10+5="])
        >>> drawn = sampler.sample(2, context=context, generator=torch.Generator().manual_seed(0))
        >>> sampler.score(drawn, frozenset({"log_pf", "log_prior"})).log_pf.shape == (2, drawn.steps)
        True

    Use it for full fine-tuning or adapters on one device; it does not shard a model over several.
    """

    version: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        stops: tuple[int, ...],
        most: int,
        temperature: float = 1.0,
        prior: bool = True,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.network = Network(model, bf16=bf16)
        self.stops, self.most, self.temperature = tuple(stops), most, temperature
        _check_settings(self.stops, most, temperature, self.network.vocabulary)
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))
        self.reference = Frozen(self.network) if prior else None
        offers = {"log_pf", "log_pb", "entropy"} | ({"log_prior", "kl_prior"} if prior else set())
        self.offers = frozenset(offers)

    @property
    def model(self) -> nn.Module:
        """The model of transformers, as it is now."""
        return self.network.model

    def sample(
        self,
        n: int,
        *,
        context: Columns = None,
        behaviour: Behaviour = ON_POLICY,
        start: Trajectories | None = None,
        keep: Tensor | None = None,
        generator: torch.Generator,
    ) -> Trajectories:
        """n responses; the first keep[i] tokens of start[i] stay where these are given."""
        if behaviour.noise:
            raise ValueError(f"noise is {behaviour.noise}: tokens are explored by epsilon or temperature")
        require_both(start, keep)
        prompt, length = self._prompts(context, n)
        # Held a few roundings below 1, so that inverse CDF never passes the last token.
        uniforms = torch.rand((self.most, n), generator=generator) * (1 - 2.0**-22)
        kept = None if start is None else start.path["token"]
        drawn = self._generated(prompt, length, uniforms, behaviour, kept, keep)
        return self._record(drawn, context, start, keep)

    def greedy(self, context: Columns) -> Trajectories:
        """The likeliest token each time, for prompts; not drawn from the policy, so without `log_behaviour`."""
        prompt, length = self._prompts(context, None)
        record = self._record(self._generated(prompt, length, None, ON_POLICY, None, None), context, None, None)
        return replace(record, fixed={})

    def sample_to(self, ends: Trajectories, *, generator: torch.Generator) -> Trajectories:
        """The same rows with the one path that ends in their objects; the generator is not used."""
        if not isinstance(ends.objects, Mapping):
            raise ValueError("responses are a dict of 'token' (n, steps) and 'length' (n,)")
        token, length = ends.objects["token"], ends.objects["length"]
        assert isinstance(token, Tensor) and isinstance(length, Tensor)
        steps = int(length.max()) if len(length) else 0
        version = self.version.cpu().expand(len(ends)).clone()
        path = {"token": token[:, :steps].clone()}
        return replace(ends, path=path, length=length.clone(), version=version, fixed={}, steps=steps)

    @torch.no_grad()
    def renew(self, trajectories: Trajectories) -> Trajectories:
        """Fills `fixed["log_prior"]` where it is absent or of another version of the reference."""
        if self.reference is None:
            return trajectories

        def compute(stale: Trajectories) -> Tensor:
            return self._evaluated(stale, frozenset({"log_pf"}), frozen=True)["log_pf"]

        return renewed(trajectories, "log_prior", self.reference.version, compute)

    def score(
        self, trajectories: Trajectories, needs: frozenset[str], *, generator: torch.Generator | None = None
    ) -> Scores:
        """The scores that `needs` names, differentiable in the model; the generator is not used.

        Raises:
            ValueError: a need that this sampler does not offer.
        """
        require_offered(self, needs)
        mask = torch.arange(trajectories.steps) < trajectories.length[:, None]
        found = {}
        if "log_prior" in needs:  # before the model's own pass, whose graph would lie in memory beside it
            value = self.renew(trajectories).fixed["log_prior"].value
            found["log_prior"] = torch.where(mask, value, 0.0)
        if needs & {"log_pf", "entropy", "kl_prior"}:
            found |= self._evaluated(trajectories, needs, frozen=False)
        if "log_pb" in needs:
            found["log_pb"] = torch.zeros(mask.shape)
        return Scores(mask=mask, **found)

    def reset_reference(self) -> None:
        """The model as it is now becomes the reference; its version rises, so that stored log-priors are renewed.

        Source: the resets of TBA' (Bartoldson et al. 2025, section 6), after ProRL (Liu et al. 2025, arXiv:2505.24864).

        Raises:
            ValueError: a sampler without a reference.
        """
        if self.reference is None:
            raise ValueError("this sampler has no reference to reset: make it with prior=True")
        self.reference.take(self.network)

    def _generated(
        self,
        prompt: Tensor,
        length: Tensor,
        uniforms: Tensor | None,
        behaviour: Behaviour,
        kept: Tensor | None,
        keep: Tensor | None,
    ) -> Responses:
        return generate(
            self.network,
            prompt,
            length,
            most=self.most,
            stops=self.stops,
            uniforms=uniforms,
            temperature=self.temperature,
            behaviour=behaviour,
            kept=kept,
            keep=keep,
        )

    def _record(
        self, drawn: Responses, context: Columns, start: Trajectories | None, keep: Tensor | None
    ) -> Trajectories:
        n, steps = len(drawn.length), int(drawn.length.max()) if len(drawn.length) else 0
        token = drawn.token[:, :steps]
        version = self.version.cpu().expand(n).clone()
        behaviour = Fixed(drawn.log_behaviour[:, :steps], version.clone())
        if start is not None and keep is not None:
            behaviour = _with_kept(behaviour, start, keep)
        return Trajectories(
            path={"token": token},
            length=drawn.length,
            objects={"token": token.clone(), "length": drawn.length.clone()},
            context=context,
            group=torch.zeros(n, dtype=torch.int64),
            log_reward=None,
            version=version,
            key=torch.full((n,), -1, dtype=torch.int64),
            fixed={"log_behaviour": behaviour},
            steps=steps,
        )

    def _evaluated(self, rows: Trajectories, needs: frozenset[str], *, frozen: bool) -> dict[str, Tensor]:
        """Values of every token, (n, steps), in one pass over prompts and responses and slices of logits."""
        device, mask = self.network.device, torch.arange(rows.steps) < rows.length[:, None]
        prompt, length = self._prompts(rows.context, len(rows))
        token = torch.where(mask, rows.path["token"], 0)
        row, place = mask.nonzero(as_tuple=True)
        joined, total = join(prompt, length, token, (rows.length - 1).clamp(min=0))  # the last token predicts nothing
        given = (joined.to(device), total.to(device))
        where = (row.to(device), (length[row] - 1 + place).to(device))
        names = sorted(needs & {"log_pf", "entropy", "kl_prior"})
        call = self.network if not frozen else self._frozen
        other = self._frozen("hidden", *given)[where] if "kl_prior" in names else None
        values = self._sliced(call, call("hidden", *given)[where], token[mask].to(device), other, names)
        zeros = values[0].new_zeros(mask.shape)
        return {name: zeros.masked_scatter(mask, value) for name, value in zip(names, values, strict=True)}

    def _sliced(
        self, call: Callable[..., Tensor], states: Tensor, token: Tensor, other: Tensor | None, names: list[str]
    ) -> list[Tensor]:
        size = max(1, SLICE // self.network.vocabulary)

        def part(states: Tensor, token: Tensor, other: Tensor | None) -> tuple[Tensor, ...]:
            log_policy = torch.log_softmax(call("logits", states) / self.temperature, 1)
            log_prior = None if other is None else self._frozen("logits", other).div(self.temperature).log_softmax(1)
            return tuple(_value(name, log_policy, log_prior, token) for name in names)

        found = []
        for first in range(0, max(len(token), 1), size):
            chosen = slice(first, first + size)
            given = (states[chosen], token[chosen], None if other is None else other[chosen])
            several = len(token) > size and torch.is_grad_enabled()
            whole = checkpoint(part, *given, use_reentrant=False, preserve_rng_state=False) if several else part(*given)
            found.append(whole)
        return [torch.cat(column).cpu() for column in zip(*found, strict=True)]

    def _frozen(self, call: str, *arguments: Tensor) -> Tensor:
        assert self.reference is not None
        return self.reference.call(self.network, call, *arguments)

    def _prompts(self, context: Columns, n: int | None) -> tuple[Tensor, Tensor]:
        """Tokens of the prompts, 0 beyond their lengths."""
        if not isinstance(context, Mapping) or not {"prompt", "prompt_length"} <= context.keys():
            raise ValueError("a language model needs prompts: context {'prompt': (n, width), 'prompt_length': (n,)}")
        prompt, length = context["prompt"], context["prompt_length"]
        assert isinstance(prompt, Tensor) and isinstance(length, Tensor)
        if n is not None and len(prompt) != n:
            raise ValueError(f"{n} responses were asked for with {len(prompt)} prompts: one prompt a response")
        _check_lengths(length, self.most, self.network.window)
        return torch.where(torch.arange(prompt.shape[1]) < length[:, None], prompt, 0), length


def _value(name: str, log_policy: Tensor, log_prior: Tensor | None, token: Tensor) -> Tensor:
    if name == "log_pf":
        return log_policy.gather(1, token[:, None])[:, 0]
    if name == "entropy":
        return -(log_policy.exp() * log_policy).sum(1)
    assert log_prior is not None
    return (log_policy.exp() * (log_policy - log_prior)).sum(1)


def _with_kept(behaviour: Fixed, start: Trajectories, keep: Tensor) -> Fixed:
    """The behaviour's log-probabilities of kept tokens are those of the start; a row is absent where it has none."""
    held = start.fixed.get("log_behaviour")
    kept = keep > 0
    if held is None:
        return Fixed(behaviour.value, behaviour.version.masked_fill(kept, -1))
    value, width = behaviour.value.clone(), min(behaviour.value.shape[1], start.steps)
    inside = torch.arange(width) < keep[:, None]
    value[:, :width] = torch.where(inside, held.value[:, :width], value[:, :width])
    return Fixed(value, behaviour.version.masked_fill(kept & (held.version < 0), -1))


def _check_settings(stops: tuple[int, ...], most: int, temperature: float, vocabulary: int) -> None:
    if not stops:
        raise ValueError("no stop token was given: a response must be able to end; give the tokenizer's end token")
    outside = [stop for stop in stops if not 0 <= stop < vocabulary]
    if outside:
        raise ValueError(f"stop token {outside[0]} is outside the vocabulary of {vocabulary} tokens")
    if most < 1:
        raise ValueError(f"most is {most}: at least one token of response was expected")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: a positive number was expected")


def _check_lengths(length: Tensor, most: int, window: int | None) -> None:
    if len(length) and int(length.min()) < 1:
        raise ValueError(f"prompt {int(length.argmin())} has no token: begin it with a token of beginning")
    if window is not None and len(length) and int(length.max()) + most > window:
        row = int(length.argmax())
        raise ValueError(
            f"prompt {row} has {int(length[row])} tokens; with responses of {most} tokens that is beyond the "
            f"model's window of {window}: shorten the prompt or the responses"
        )
