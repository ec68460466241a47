"""A tokenizer of single characters and a small model from a configuration: what needs neither a hub nor a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

PAD, END, UNKNOWN = "<pad>", "<end>", "<unknown>"


def character_tokenizer(alphabet: str) -> Any:
    """A tokenizer of transformers whose tokens are single characters, with a pad, an end and an unknown token.

    It is saved by `save_pretrained` and loaded by `AutoTokenizer`.

    Args:
        alphabet: the characters; repeated ones count once.

    Raises:
        ValueError: no character.

    Example:
        >>> tokenizer = character_tokenizer("0123456789+=")
        >>> tokenizer("12+3=")["input_ids"], tokenizer.decode([4, 5])
        ([4, 5, 13, 6, 14], '12')
    """
    from equipoise.language.loading import transformers

    if not alphabet:
        raise ValueError("the alphabet is empty: at least one character was expected")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    words = {word: place for place, word in enumerate([PAD, END, UNKNOWN, *dict.fromkeys(alphabet)])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")  # type: ignore[assignment]
    tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
    return transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, clean_up_tokenization_spaces=False
    )


def tiny_model(
    tokenizer: Any, *, width: int = 128, layers: int = 3, heads: int = 4, window: int = 64, seed: int = 0
) -> Any:
    """A Qwen2 model with random weights: 0.6 million parameters by default.

    Args:
        tokenizer: gives the size of the vocabulary, the pad and the end token.
        width: of the hidden states.
        layers: of the model.
        heads: of the attention.
        window: tokens of a prompt and its response.
        seed: of the weights; the global generator is left as it was.

    Example:
        >>> model = tiny_model(character_tokenizer("01"), width=16, layers=1)
        >>> model.config.model_type
        'qwen2'
    """
    from equipoise.language.loading import transformers

    library = transformers()
    config = library.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=window,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = library.Qwen2ForCausalLM(config)
    return model.eval()


def prompts(tokenizer: Any, texts: Sequence[str]) -> dict[str, Tensor | tuple[str, ...]]:
    """Texts as a context: `prompt` (n, width), padded on the right, `prompt_length` (n,), and `text`.

    A token of beginning is there where the tokenizer adds one; a token of end that it adds is dropped.

    Example:
        >>> prompts(character_tokenizer("01+="), ["1+1=", "0="])["prompt_length"].tolist()
        [4, 2]
    """
    rows = [_open(tokenizer, list(tokens)) for tokens in tokenizer(list(texts))["input_ids"]] if len(texts) else []
    length = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    prompt = torch.zeros((len(rows), int(length.max()) if len(rows) else 0), dtype=torch.int64)
    for place, row in enumerate(rows):
        prompt[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return {"prompt": prompt, "prompt_length": length, "text": tuple(texts)}


def texts_of(tokenizer: Any, objects: Mapping[str, Any]) -> list[str]:
    """Responses as text, without special tokens.

    Example:
        >>> objects = {"token": torch.tensor([[4, 3, 1]]), "length": torch.tensor([3])}
        >>> texts_of(character_tokenizer("01"), objects)
        ['10']
    """
    rows = zip(objects["token"].tolist(), objects["length"].tolist(), strict=True)
    return [tokenizer.decode(row[:length], skip_special_tokens=True) for row, length in rows]


def _open(tokenizer: Any, tokens: list[int]) -> list[int]:
    """Tokens without an end that the tokenizer has added."""
    while tokens and tokens[-1] == tokenizer.eos_token_id and tokens[-1] != getattr(tokenizer, "bos_token_id", None):
        tokens.pop()
    return tokens
