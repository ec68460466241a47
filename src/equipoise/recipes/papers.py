"""The papers behind each method, loss and task: what `equipoise cite` prints."""

from __future__ import annotations

from equipoise.recipes.bibliography import PAPERS, Paper
from equipoise.recipes.configuration import METHODS

_METHODS: dict[str, tuple[str, ...]] = {
    "tb": ("malkin2022trajectory",),
    "vargrad": ("richter2020vargrad", "zhang2023robust", "malkin2022trajectory"),
    "db": ("bengio2021foundations",),
    "modified_db": ("deleu2022bayesian",),
    "fl_db": ("pan2023better",),
    "subtb": ("madan2022learning",),
    "fm": ("bengio2021flow",),
    "guided": ("shen2023towards",),
    "rtb": ("venkatraman2024amortizing", "deleu2025relative"),
    "trust_pcl": ("nachum2018trust", "deleu2025relative"),
    "likelihood": ("ho2020denoising",),
    "reinforce": ("deleu2025relative",),
    "reinforce_weighted": ("deleu2025relative",),
    "ppo": ("schulman2017proximal",),
    "dpok": ("fan2023dpok",),
    "classifier_guidance": ("dhariwal2021diffusion",),
    "dps": ("chung2023diffusion",),
    "original": ("venkatraman2024amortizing", "deleu2025relative"),
    "tba": ("bartoldson2025trajectory",),
    "kimi": ("kimi2025scaling",),
    "rloo": ("ahmadian2024back",),
    "grpo": ("shao2024deepseekmath",),
    "dr_grpo": ("liu2025understanding",),
    "cispo": ("minimax2025m1",),
    "online_dpo": ("guo2024direct",),
}
_PRACTICES: dict[str, tuple[str, ...]] = {
    "prioritized": ("shen2023towards",),
    "relative_edges": ("shen2023towards",),
    "wide_and_deep": ("cheng2016wide",),
    "maximum_entropy": ("mohammadpour2024maximum",),
    "likelihood": ("gritsaev2025optimizing",),
    "pessimistic": ("jang2024pessimistic",),
    "reinforce": ("cretu2024synflownet",),
    "local_search": ("kim2024local",),
    "metropolis_hastings": ("kim2024local",),
    "teacher": ("kim2025adaptive",),
    "thompson": ("rectorbrooks2023thompson",),
    "temperatures": ("kim2024learning",),
}
"""Sources, networks, backward policies and searches of discrete tasks, by their names."""

_RESIDUALS = {residual: method for method, (residual, _) in reversed(METHODS.items())}
"""The first method that has each residual."""

_TASKS = {"hypergrid": ("bengio2021flow", "malkin2022trajectory"), "tfbind8": ("shen2023towards",), "strings": ()}
_TASKS |= {name: ("shen2023towards",) for name in ("bags", "qm9_strings", "tfbind10", "seh_strings")}
_TASKS |= {"molecules": ("cretu2024synflownet", "bengio2021flow")}
_TASKS |= {"bit_sequences": ("malkin2022trajectory", "tiapkin2024generative"), "peptides": ("malkin2022trajectory",)}
_TASKS |= {"sets": ("pan2023better",), "ising": ("zhang2022generative",)}
_TASKS["digits"] = ("venkatraman2024amortizing", "ho2020denoising", "black2023training")
_TASKS["antibody"] = ("abir2025abflownet",)
_TASKS["gaussians25"] = ("venkatraman2024amortizing", "deleu2025relative")
_TASKS |= {"arithmetic": ("bartoldson2025trajectory",), "gsm8k": ("bartoldson2025trajectory", "cobbe2021training")}


def papers_of(
    *, task: str, method: str, residual: str, loss: str, log_z: str, practices: tuple[str, ...] = ()
) -> list[Paper]:
    """The papers of a run's choices, each once; practices are those of discrete tasks beyond the four choices."""
    own = METHODS.get(method, (residual,))[0] == residual
    keys = [*_TASKS.get(task, ()), *_METHODS[method if own else _RESIDUALS[residual]]]
    keys += ["fawkes2026ftb"] if loss != "reverse_kl" or log_z == "deviation" else []
    keys += ["hu2024beyond"] if loss == "shifted_cosh" else []
    keys += ["richter2020vargrad", "zhang2023robust"] if log_z == "group_mean" else []
    keys += [key for name in practices for key in _PRACTICES.get(name, ())]
    return [PAPERS[key] for key in dict.fromkeys(keys)]


def papers_named(name: str) -> list[Paper]:
    """The papers of a method, residual or task, or one paper by its key; empty where the name is unknown."""
    if name in PAPERS:
        return [PAPERS[name]]
    keys = _METHODS.get(_RESIDUALS.get(name, name)) or _TASKS.get(name) or _PRACTICES.get(name, ())
    return [PAPERS[key] for key in keys]


_NEW = tuple(name for name in _PRACTICES if name not in _METHODS)


def names() -> list[str]:
    """Every name that `papers_named` knows."""
    return [*_METHODS, *_RESIDUALS, *(name for name, keys in _TASKS.items() if keys), *_NEW, *PAPERS]
