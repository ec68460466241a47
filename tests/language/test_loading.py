"""Models and tokenizers of folders: adapters, checkpointing, bfloat16, saving, and what cannot be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.contracts import check_sampler
from equipoise.language.loading import Adapters, adapted, check_tokenizer, load_model, load_tokenizer, save, stop_tokens
from equipoise.language.sampler import LanguageModel
from equipoise.language.tiny import character_tokenizer, prompts, texts_of, tiny_model
from language.small import digits_sampler, generator, questions

CHARACTERS = "0123456789+="
NEEDS = frozenset({"log_pf", "log_prior"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = character_tokenizer(CHARACTERS)
    save(digits_sampler().model, tokenizer, tmp_path / "model")
    return tmp_path / "model"


def sampler_of(model: Any, **settings: Any) -> LanguageModel:
    return LanguageModel(model, stops=(1,), most=6, **settings)


def scored(sampler: LanguageModel) -> torch.Tensor:
    drawn = digits_sampler().sample(8, context=questions(8), generator=generator())
    return sampler.score(drawn, frozenset({"log_pf"})).get("log_pf")


def test_what_is_saved_is_loaded_by_transformers_alone(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = tokenizer("12+3=", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(given).logits, digits_sampler().model(given).logits)
    assert tokenizer.decode(given[0], skip_special_tokens=True) == "12+3="
    assert tokenizer.eos_token_id == 1


def test_a_folder_is_loaded_as_it_was_saved(folder: Path) -> None:
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    assert stop_tokens(tokenizer, model) == (1,)
    torch.testing.assert_close(scored(sampler_of(model)), scored(digits_sampler()))


def test_adapters_alone_are_trained_and_the_reference_shares_the_rest(folder: Path) -> None:
    sampler = sampler_of(load_model(folder, adapters=Adapters(rank=4, scale=8.0)))
    trained = [name for name, parameter in sampler.named_parameters() if parameter.requires_grad]
    assert trained and all("lora" in name for name in trained)
    assert sampler.reference is not None
    assert sum(value.numel() for value in sampler.reference.buffers()) < 0.3 * sum(
        parameter.numel() for parameter in sampler.parameters()
    )
    torch.testing.assert_close(scored(sampler), scored(digits_sampler()))
    before = scored(sampler).detach()
    with torch.no_grad():
        for parameter in sampler.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    check_sampler(sampler, n=6, context=questions(6))
    drawn = digits_sampler().sample(8, context=questions(8), generator=generator())
    scores = sampler.score(drawn, NEEDS)
    torch.testing.assert_close(scores.get("log_prior"), before)
    assert not torch.allclose(scores.get("log_pf"), before, atol=1e-2)
    sampler.reset_reference()
    torch.testing.assert_close(sampler.score(drawn, NEEDS).get("log_prior"), scores.get("log_pf").detach())


def test_adapters_are_merged_into_what_is_saved(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder, adapters=Adapters(rank=4))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    save(model, load_tokenizer(folder), tmp_path / "merged")
    torch.testing.assert_close(
        scored(sampler_of(load_model(tmp_path / "merged"))), scored(sampler_of(model)), atol=1e-4, rtol=1e-4
    )
    assert hasattr(model, "merge_and_unload"), "the model that trains keeps its adapters"


def test_gradient_checkpointing_changes_neither_draws_nor_gradients(folder: Path) -> None:
    plain, spare = sampler_of(load_model(folder)), sampler_of(load_model(folder, gradient_checkpointing=True))
    assert spare.model.training and not plain.model.training
    for sampler in (plain, spare):
        scored(sampler).sum().backward()
    for one, other in zip(plain.network.parameters(), spare.network.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    first = plain.sample(6, context=questions(6), generator=generator())
    second = spare.sample(6, context=questions(6), generator=generator())
    assert torch.equal(first.path["token"], second.path["token"])
    assert spare.model.training


def test_in_bfloat16_trained_weights_and_scores_stay_float32(folder: Path) -> None:
    sampler = sampler_of(load_model(folder, bf16=True), bf16=True)
    value = scored(sampler)
    assert value.dtype == torch.float32
    assert {parameter.dtype for parameter in sampler.network.parameters()} == {torch.float32}
    assert 0 < (value - scored(digits_sampler())).abs().max() < 0.5
    light = load_model(folder, bf16=True, adapters=Adapters(rank=2))
    kinds = {parameter.requires_grad: parameter.dtype for parameter in light.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    check_sampler(sampler_of(light, bf16=True), n=4, context=questions(4))


def test_a_model_whose_logits_are_capped_is_scored_by_its_own_logits() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.5,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gemma2ForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(10.0 if parameter.dim() > 1 else 1.0)
    sampler = sampler_of(model)
    assert not sampler.network.split
    check_sampler(sampler, n=6, context=questions(6))
    drawn = sampler.sample(6, context=questions(6), generator=generator())
    value = sampler.score(drawn, frozenset({"log_pf"})).get("log_pf").detach()
    torch.testing.assert_close(value, drawn.fixed["log_behaviour"].value, atol=1e-4, rtol=0)


def test_another_architecture_with_learned_positions_keeps_the_contract() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    sampler = sampler_of(model)
    check_sampler(sampler, n=6, context=questions(6))
    drawn = sampler.sample(12, context=questions(12), generator=generator())
    value = sampler.score(drawn, frozenset({"log_pf"})).get("log_pf").detach()
    torch.testing.assert_close(value, drawn.fixed["log_behaviour"].value, atol=1e-4, rtol=0)


def test_a_tokenizer_without_an_end_token_is_refused_and_one_without_a_pad_token_is_not(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    inner = character_tokenizer(CHARACTERS).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=inner).save_pretrained(tmp_path / "no-end")
    with pytest.raises(ValueError, match="has no end token"):
        load_tokenizer(tmp_path / "no-end")
    bare = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")
    check_tokenizer(bare)
    assert bare.pad_token_id == bare.eos_token_id


def test_code_of_a_repository_is_run_only_when_asked_for(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise RuntimeError('this code must not run')\n")
    with pytest.raises(ValueError, match="--trust-remote-code"):
        load_model(folder)


def test_a_name_that_is_nowhere_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be loaded: a folder written by save_pretrained") as error:
        load_model(tmp_path / "absent")
    assert "\n" not in str(error.value)


def test_an_end_token_that_a_tokenizer_adds_to_a_prompt_is_dropped() -> None:
    class Ending:
        eos_token_id, bos_token_id = 1, None

        def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
            return {"input_ids": [[5, 6, 1] for _ in texts]}

    found = prompts(Ending(), ["12"])["prompt"]
    assert isinstance(found, torch.Tensor) and found.tolist() == [[5, 6]]


def test_characters_go_to_tokens_and_back() -> None:
    tokenizer = character_tokenizer("ab\n c")
    token = torch.tensor([tokenizer("a b\nc")["input_ids"]])
    assert texts_of(tokenizer, {"token": token, "length": torch.tensor([5])}) == ["a b\nc"]
    with pytest.raises(ValueError, match="alphabet is empty"):
        character_tokenizer("")


def test_a_tiny_model_is_a_function_of_its_seed_and_leaves_the_global_generator_alone() -> None:
    tokenizer = character_tokenizer(CHARACTERS)
    before = torch.random.get_rng_state()
    first, second = (tiny_model(tokenizer, width=16, layers=1, seed=3) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))
    count = sum(parameter.numel() for parameter in tiny_model(tokenizer).parameters())
    assert 3e5 <= count <= 1e6
    assert adapted(tiny_model(tokenizer, width=16, layers=1), Adapters(rank=2)) is not None
