"""Models and tokenizers of the hub or a folder, with errors that say what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Adapters:
    """LoRA by peft: low-rank adapters train, the model's own weights do not.

    Source: Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.

    Attributes:
        rank: of the adapters.
        scale: lora_alpha; the adapters' output is scaled by scale / rank.
        targets: layers that get adapters: names, or "all-linear".
    """

    rank: int = 32
    scale: float = 16.0
    targets: str | tuple[str, ...] = "all-linear"


def transformers() -> ModuleType:
    """The package transformers, imported at its first use.

    Raises:
        ModuleNotFoundError: it is not installed; names the extra.
    """
    try:
        import transformers as library
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "language models need transformers, which is not installed: pip install 'equipoise[language]'"
        ) from error
    library.utils.logging.disable_progress_bar()  # of single files of weights, amid the run's own
    return library


def load_tokenizer(name: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a local folder or a hub name.

    Raises:
        ValueError: it cannot be found, needs `trust_remote_code`, or has no end token. A pad token is not needed: what
            pads is never read.
    """
    tokenizer = loaded(transformers().AutoTokenizer.from_pretrained, name, trust_remote_code)
    check_tokenizer(tokenizer)
    return tokenizer


def check_tokenizer(tokenizer: Any) -> None:
    """Holds a tokenizer to what sampling needs: an end token; a missing pad token is filled with it.

    Raises:
        ValueError: no end token.
    """
    if tokenizer.eos_token_id is None:
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        raise ValueError(
            f"the tokenizer of '{name}' has no end token, so a response could not end: set tokenizer.eos_token and "
            "save it again"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def load_model(
    name: str | Path,
    *,
    adapters: Adapters | None = None,
    gradient_checkpointing: bool = False,
    bf16: bool = False,
    trust_remote_code: bool = False,
) -> Any:
    """A causal language model of a local folder or a hub name, ready for `LanguageModel`.

    Args:
        name: a folder written by `save_pretrained`, or a name on the hub.
        adapters: train LoRA adapters alone; None: all parameters.
        gradient_checkpointing: recompute layers in the backward pass, for less memory.
        bf16: keep frozen weights in bfloat16 where there are adapters; trained ones stay float32, since steps of
            1e-6 are lost in bfloat16 (the model then runs under autocast, see `LanguageModel`).
        trust_remote_code: run code that the model's repository holds.

    Raises:
        ValueError: the model cannot be found, or needs `trust_remote_code`.
        ModuleNotFoundError: adapters without peft.
    """
    import torch

    dtype = torch.bfloat16 if bf16 and adapters is not None else torch.float32
    model = loaded(transformers().AutoModelForCausalLM.from_pretrained, name, trust_remote_code, dtype=dtype)
    if adapters is not None:
        model = adapted(model, adapters)
    if gradient_checkpointing:
        _recompute_layers(model)
    return model


def adapted(model: Any, adapters: Adapters) -> Any:
    """The model with fresh LoRA adapters, which alone are trained.

    Raises:
        ModuleNotFoundError: peft is not installed.
    """
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "adapters need peft, which is not installed: pip install 'equipoise[language]'"
        ) from error
    targets = adapters.targets if isinstance(adapters.targets, str) else list(adapters.targets)
    config = peft.LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.scale,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, config)


def stop_tokens(tokenizer: Any, model: Any) -> tuple[int, ...]:
    """The tokenizer's end token, and those that the model's generation settings name."""
    found = [tokenizer.eos_token_id]
    settings = getattr(model, "generation_config", None)
    named = getattr(settings, "eos_token_id", None)
    found += named if isinstance(named, list) else [named]
    return tuple(dict.fromkeys(int(token) for token in found if token is not None))


def save(model: Any, tokenizer: Any, path: Path) -> None:
    """Writes model and tokenizer by `save_pretrained`: transformers alone loads the folder again.

    Adapters are merged into a copy of the model, so that the folder needs no peft either.
    """
    path.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "merge_and_unload"):
        from copy import deepcopy

        model = deepcopy(model).merge_and_unload()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def _recompute_layers(model: Any) -> None:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.activation_checkpointing_enable({"use_reentrant": False})


def loaded(load: Any, name: str | Path, trust_remote_code: bool, **settings: Any) -> Any:
    """What a `from_pretrained` gives for a name; its errors are ValueErrors of one line.

    Raises:
        ValueError: it cannot be found, or needs `trust_remote_code`.
    """
    try:
        return load(str(name), trust_remote_code=trust_remote_code, **settings)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"'{name}' brings code of its own, which is not run unless asked for: read it, and then give "
                "--trust-remote-code"
            ) from error
        first = " ".join(str(error).split())
        raise ValueError(
            f"'{name}' cannot be loaded: a folder written by save_pretrained, or a name on the hub, was expected "
            f"({first[:300]})"
        ) from error
