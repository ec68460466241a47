"""Public data sets: one table of files, and one function that finds a file by its name.

A file is looked for in the folder that the caller names (the option ``--data``), then in the folder that the
environment variable ``EQUIPOISE_DATA`` names, then in the user's cache (``$XDG_CACHE_HOME/equipoise``, or
``~/.cache/equipoise``). All three have the layout of the column ``path`` of `DATA_FILES`. What is in none of them is
downloaded into the cache where its origin offers plain files. Wherever a file is found, its sha256 is checked before
its path is returned, so two machines that name the same data set read the same bytes. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

__all__ = ["DATA_FILES", "DataError", "DataFile", "Download", "OriginFile", "find", "locate"]

VARIABLE = "EQUIPOISE_DATA"
TIMEOUT = 30.0  # seconds that one read from the network may take
BLOCK = 1 << 20  # bytes


class DataError(ValueError):
    """A data file is unknown, missing or not the one that the table describes. The message is one line."""


@dataclass(frozen=True)
class OriginFile:
    """A plain file at its origin: its address and the sha256 of its bytes."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Download:
    """How a data file is made from plain files of its origin.

    Attributes:
        files: the origin's files, in the order that `convert` expects.
        convert: writes the data file, given the paths of the downloaded files and the path to write.
    """

    files: tuple[OriginFile, ...]
    convert: Callable[[Sequence[Path], Path], None]


@dataclass(frozen=True)
class DataFile:
    """One row of the table of data sets.

    Attributes:
        name: the name that `find` is given.
        path: where the file lies in a data folder, relative, with forward slashes.
        sha256: of the file's bytes, in hexadecimal.
        contents: the plain format of the file, in words.
        origin: where it comes from, in words.
        licence: of the origin.
        download: how to make it from plain files of the origin; None where the origin is a pickle or another unsafe or
            foreign format, or where the file has to be put into a data folder by hand.
    """

    name: str
    path: str
    sha256: str
    contents: str
    origin: str
    licence: str
    download: Download | None = None


def find(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of a data file whose bytes are those that the table describes.

    Args:
        name: a name in `DATA_FILES`.
        folder: a data folder to look in first.

    Returns:
        The path of a file whose sha256 has been checked.

    Raises:
        DataError: the name is unknown (the message offers the nearest), the file is nowhere and cannot be downloaded,
            or a file was found with other bytes.

    Use it wherever a task reads public data, and read arrays with ``numpy.load(path, allow_pickle=False)``.

    >>> find("tfbind")
    Traceback (most recent call last):
    equipoise.data.DataError: no data set is called 'tfbind'; did you mean 'tfbind8'? ...
    """
    if name not in DATA_FILES:
        from difflib import get_close_matches

        near = get_close_matches(name, DATA_FILES, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise DataError(f"no data set is called '{name}'; {hint}known are {', '.join(DATA_FILES)}")
    return locate(DATA_FILES[name], folder)


def locate(file: DataFile, folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the checked path of a data file that need not be in the table; see `find`.

    Raises:
        DataError: the file is nowhere and cannot be downloaded, or a file was found with other bytes.
    """
    cache = _cache()
    named = os.environ.get(VARIABLE)
    places = {"--data": folder, VARIABLE: named or None, "the cache": cache}
    for place in places.values():
        path = None if place is None else Path(place).expanduser() / file.path
        if path is not None and path.is_file():
            return _checked(path, file)
    looked = ", ".join(f"{label} ({'not given' if place is None else place})" for label, place in places.items())
    missing = f"the data set '{file.name}' is missing: no file {file.path} in {looked}"
    what = f"{file.contents}; from {file.origin}"
    put = f"put it ({what}) at {file.path} in a folder, and name that by --data or {VARIABLE}"
    if file.download is None:
        raise DataError(_line(f"{missing}; there is no download for it: {put}"))
    try:
        return _download(file, file.download, cache / file.path)
    except OSError as error:
        raise DataError(
            _line(f"{missing}; the download failed ({error}); try again with a network, or {put}")
        ) from None


def _cache() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "equipoise"


def _line(words: str) -> str:
    return " ".join(words.split())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(path: Path, file: DataFile) -> Path:
    found = _sha256(path)
    if found != file.sha256:
        raise DataError(
            f"{path} is not the data set '{file.name}': its sha256 is {found}, expected {file.sha256}; "
            "remove it (it is then looked for elsewhere), or put the right file in its place"
        )
    return path


def _download(file: DataFile, download: Download, target: Path) -> Path:
    """Fetch the origin's files, convert them and move the checked result to `target` in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as aside:
        sources = [_fetch(origin, Path(aside) / f"origin-{i}") for i, origin in enumerate(download.files)]
        made = Path(aside) / target.name
        try:
            download.convert(sources, made)
        except ValueError as error:
            raise DataError(_line(f"the origin's files of '{file.name}' cannot be converted: {error}")) from error
        os.replace(_checked(made, file), target)
    return target


def _fetch(origin: OriginFile, target: Path) -> Path:
    """Download one file to `target` and check its bytes."""
    from http.client import HTTPException
    from urllib.request import urlopen

    digest, received = hashlib.sha256(), 0
    try:
        with urlopen(origin.url, timeout=TIMEOUT) as response, target.open("wb") as stream:
            while block := response.read(BLOCK):
                stream.write(block)
                digest.update(block)
                received += len(block)
    except (OSError, HTTPException) as error:
        raise OSError(f"{origin.url}: {str(error) or repr(error)}") from error
    if digest.hexdigest() != origin.sha256:
        raise DataError(
            f"{origin.url} sent {received} bytes whose sha256 is {digest.hexdigest()}, expected {origin.sha256}; "
            "nothing was kept: try again, and report it if it stays so, for the origin has then changed"
        )
    return target


def scores_of_all_words(letters: Path, values: Path, target: Path, *, alphabet: int, length: int) -> None:
    """Write the scores of all words of a fixed length as one array, indexed by the word's number.

    The number of a word is written in the base of the alphabet, its first letter the most significant digit.

    Args:
        letters: a npy file, integers (rows, length), each in [0, alphabet). A word may occur more than once.
        values: a npy file, (rows,) or (rows, 1): the score of each row's word.
        target: the npy file to write, float32 (alphabet ** length,).
        alphabet: how many letters there are.
        length: of a word.

    Raises:
        ValueError: a shape or letter is not as described, a file holds objects (which would have to be unpickled), a
            word occurs with two scores, or a word is absent.
    """
    import numpy as np

    x = np.load(letters, allow_pickle=False)
    y = np.load(values, allow_pickle=False).astype(np.float32).reshape(-1)
    if x.shape != (len(y), length) or x.dtype.kind not in "iu":
        raise ValueError(f"expected integers of shape ({len(y)}, {length}), got {x.dtype} of shape {x.shape}")
    if len(x) and (x.min() < 0 or x.max() >= alphabet):
        raise ValueError(f"expected letters from 0 to {alphabet - 1}, got {x.min()} to {x.max()}")
    index = x.astype(np.int64) @ alphabet ** np.arange(length - 1, -1, -1, dtype=np.int64)
    scores = np.full(alphabet**length, np.nan, dtype=np.float32)
    scores[index] = y
    if not np.array_equal(scores[index], y):
        row = int(np.flatnonzero(scores[index] != y)[0])
        raise ValueError(
            f"row {row} gives the score {y[row]} to a word to which another row gives {scores[index][row]}"
        )
    absent = int(np.isnan(scores).sum())
    if absent:
        raise ValueError(f"{absent} of {len(scores)} words have no score")
    with target.open("wb") as stream:
        np.save(stream, scores, allow_pickle=False)


def _tfbind8(sources: Sequence[Path], target: Path) -> None:
    scores_of_all_words(sources[0], sources[1], target, alphabet=4, length=8)


def _tfbind8_download() -> Download:
    commit = "b52d9c6c2b058cfe7493212b5899dc85eb41e04b"
    folder = f"https://raw.githubusercontent.com/csiro-funml/variationalsearch/{commit}/data/TFBIND8"
    letters = "8957a728704d2e6c5dbba921dd9e16cbd76797489b081c5dc7f39ca23582d95d"
    values = "a61dd97796a4173d3a2a3d016db44e5d42e1f1d6a39d9f1ad2465d2c6b94fcb7"
    files = (OriginFile(f"{folder}/tf_bind_8-x-0.npy", letters), OriginFile(f"{folder}/tf_bind_8-y-0.npy", values))
    return Download(files, _tfbind8)


def _table(files: Iterable[DataFile]) -> MappingProxyType[str, DataFile]:
    return MappingProxyType({file.name: file for file in files})


_QM9 = "GitHub d-tiapkin/gfnx, proxy/weights/qm9_small (a pickle), task of Shen et al. 2023"
_AMP = "GitHub d-tiapkin/gfnx, proxy/weights/amp (an orbax checkpoint)"
_SEH = "GitHub GFNOrg/gflownet"
_RGFN = "GitHub koziarskilab/RGFN, data/chemistry.xlsx"
_GSM8K = "GitHub openai/grade-school-math"
_ANTIBODY = "GitHub piercelab/antibody_benchmark"

# fmt: off
DATA_FILES = _table([
    DataFile(
        "tfbind8", "tfbind8/scores.npy", "34a387381da955dc6763f0f8cc20ead175568e6d0aad60e72b46c83dfa3cc5e4",
        "npy, float32 (65536,): binding of SIX6_REF_R1 to every DNA 8-mer in [0, 1]; "
        "index = base-4 number, first letter most significant, letters 0123 = ACGT",
        "GitHub csiro-funml/variationalsearch, data/TFBIND8: TFBind8-Exact of Design-Bench, of Barrera et al. 2016",
        "Apache-2.0", _tfbind8_download(),
    ),
    DataFile(
        "qm9_strings", "qm9_strings/homo_lumo_gap.npy",
        "2d77e921327f981e6aa1d21f92d61fa71f913fb1a98b8f40df0323e6facc5dc8",
        "npy, float32 (161051,): proxy HOMO-LUMO gap of every string of 5 blocks out of 11; "
        "index = base-11 number, first block most significant, alphabet 0123456789a", _QM9, "MIT",
    ),
    DataFile(
        "qm9_blocks", "qm9_strings/blocks.json", "30220590d4230e61a938e4ac82fa85bf83a03a88e0a50dba7c2df5e1b6421946",
        "json: SMILES and attachment atoms of the 11 blocks", _QM9, "MIT",
    ),
    DataFile(
        "amp_classifier", "amp/classifier.safetensors",
        "26d103518334ed59b9180128e62ae263981146ef2707ad83eef728c941fc8e3b",
        "safetensors: weights of the antimicrobial-peptide classifier", _AMP, "MIT",
    ),
    DataFile(
        "amp_golden", "amp/golden.tsv", "03857ff90961f4420285bbdf40dbfa838c81282b1453a6757276547688b46101",
        "tsv: sequence, logit, probability; reference predictions of that classifier for 30 peptides",
        "computed for this project with the network of amp_classifier", "MIT",
    ),
    DataFile(
        "seh_proxy", "seh/proxy.safetensors", "91b581070e8332bb735c474b399a1bae23c62aa1ba590e21b00923598a3e4e35",
        "safetensors: weights of the sEH binding proxy of Bengio et al. 2021",
        f"{_SEH}, mols/data/pretrained_proxy/best_params.pkl.gz (a pickle)", "MIT",
    ),
    DataFile(
        "seh_golden", "seh/golden.tsv", "71366d9572480011dd7b43e22e3bf7328b0828017c6b7f7a9c6ffa70dcd3428c",
        "tsv: smiles, root_as_trained, root_as_published; reference predictions of the sEH proxy for 20 molecules",
        "computed for this project from the weights of seh_proxy", "MIT",
    ),
    DataFile(
        "seh_receptor", "seh/4jnc.nohet.aligned.pdbqt.gz",
        "3f40e9c9c84e5b65c826ef90dd386f23da8e3686b0f5175ddf718a72b9490b0c",
        "gzipped pdbqt: the sEH receptor for docking", f"{_SEH}; PDB 4JNC", "MIT",
    ),
    DataFile(
        "fragments_105", "molecules/fragments_105.json",
        "0fcc09130c2e03046ecf3ccc6cb5f903abdb912a541b3f9f2d4578ab01453b88",
        "json: name, SMILES and attachment atoms of 105 junction-tree fragments",
        f"{_SEH}, blocks_PDB_105.json", "MIT",
    ),
    DataFile(
        "hartenfeller_button_105", "molecules/hartenfeller_button_105.smarts",
        "5ddf9be764dbec581d257f045aa53215d54f709f01647a155e454f216ec9a72c",
        "text: 105 reaction templates, one SMARTS a line", "GitHub mirunacrt/synflownet, data/templates/hb.txt", "MIT",
    ),
    DataFile(
        "rgfn_templates", "molecules/rgfn_templates.tsv",
        "76280c24b6420b22b8af182d0f6f195a27cf42e2479393ceb7a2643154535ec3",
        "tsv: family, smarts, comment of 66 two-reactant templates", _RGFN, "MIT",
    ),
    DataFile(
        "rgfn_blocks", "molecules/rgfn_blocks.tsv", "bda57836325dc9f7f683a034a1da1292bb06fe29840b8018c32c30699c98616c",
        "tsv: group, smiles of 357 rows of affordable building blocks", _RGFN, "MIT",
    ),
    DataFile(
        "zinc22_fragments_10k", "molecules/zinc22_fragments_10k.smi.gz",
        "85d2f30a2d3ddd45dd1336666d104d1f10c531f7797bbef776d6715ad354b3be",
        "gzipped text: SMILES and ZINC id of 10,000 purchasable fragments",
        "GitHub SeonghwanSeo/RxnFlow, data/building_blocks/zincfrag_10k.smi.gz", "MIT",
    ),
    DataFile(
        "gsm8k_train", "gsm8k/train.jsonl.gz", "047ae96fb3025b18b8cfa89c4f9e9c7cd5120906864d58c3f93c91c495da6449",
        "gzipped json lines: question, answer of 7,473 problems", _GSM8K, "MIT",
    ),
    DataFile(
        "gsm8k_test", "gsm8k/test.jsonl.gz", "1affc2f095eb08c525d0504bce7f620740776bcd7d67a12c71901700cb7ab73a",
        "gzipped json lines: question, answer of 1,319 problems", _GSM8K, "MIT",
    ),
    DataFile(
        "antibody_cases", "antibody/cases.tsv", "8f2d2bb7a3fc186145d4bd4e932103fe1e3d126cd05fc432c2baa6168add3790",
        "tsv: chain roles and difficulty of antibody-antigen complexes", _ANTIBODY, "CC BY 4.0",
    ),
    DataFile(
        "antibody_affinities", "antibody/affinities.tsv",
        "34ee4ee6c718ca0977d8ad44661db32a79db3c6600c5a27886ff42c7da4455e0",
        "tsv: measured Kd and dG of antibody-antigen complexes", _ANTIBODY, "CC BY 4.0",
    ),
])
