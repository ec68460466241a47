"""What says whether a response is right: 1 or 0, of texts alone.

A verifier is called as (prompt, response, answer). Its score is the log-reward before beta, so that the target is
prior * exp(score / alpha).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

Verifier = Callable[[str, str, str], float]

_NUMBER = re.compile(r"-?\$?\s*-?(?:\d[\d,]*)?\.?\d+")


def exact(prompt: str, response: str, answer: str) -> float:
    """1 where response and answer are the same text, blanks at the ends apart.

    Example:
        >>> exact("12+34=", "64", "64")
        1.0
    """
    return float(response.strip() == answer.strip())


def gsm8k(prompt: str, response: str, answer: str) -> float:
    """1 where the number after the last `####` of a response is the answer's.

    Commas, a dollar sign, a closing point and trailing zeros do not matter. A response without `####` is wrong.

    Source: Cobbe et al., 2021, "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168: solutions end in
    `#### answer`.

    Example:
        >>> gsm8k("", "2 * 600 = 1200 #### $1,200.", "1200")
        1.0
    """
    found, expected = final_number(response), _decimal(answer)
    return float(found is not None and found == expected)


def final_number(text: str) -> Decimal | None:
    """The number after the last `####` of a text; None where there is none.

    Example:
        >>> final_number("so #### -3.50 apples")
        Decimal('-3.5')
    """
    _, mark, rest = text.rpartition("####")
    return _decimal(rest) if mark else None


def equivalent(prompt: str, response: str, answer: str) -> float:
    """1 where a response's last mathematical expression equals the answer: 1/2, 0.5 and \\frac{1}{2} are one.

    By math-verify, which reads LaTeX (in \\boxed{} or dollars) and plain numbers, and compares by sympy.

    Raises:
        ModuleNotFoundError: math-verify is not installed; names the extra.

    Example:
        >>> equivalent("", "Therefore $x = \\\\frac{2}{4}$.", "0.5")
        1.0
    """
    library = _math_verify()
    # No timeout: it would need a signal, which the main thread alone can take.
    expected = _parsed(f"${answer}$")
    found = library.parse(response, parsing_timeout=None)
    return float(bool(found) and bool(library.verify(list(expected), found, timeout_seconds=None)))


VERIFIERS: dict[str, Verifier] = {"exact": exact, "gsm8k": gsm8k, "equivalent": equivalent}


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> tuple[Any, ...]:
    return tuple(_math_verify().parse(text, parsing_timeout=None))


def _math_verify() -> Any:
    try:
        import math_verify
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "mathematical equivalence needs math-verify, which is not installed: pip install 'equipoise[language]'"
        ) from error
    return math_verify


def _decimal(text: str) -> Decimal | None:
    found = _NUMBER.search(text)
    if found is None:
        return None
    try:
        value = Decimal(re.sub(r"[,$\s]", "", found.group()))
    except InvalidOperation:
        return None
    return value.normalize() + 0
