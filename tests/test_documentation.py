"""Every block of code in the documentation, and every example in a docstring, is run."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

import equipoise
from markdown_blocks import BlockError, Step, steps

ROOT = Path(__file__).parent.parent
HOUSE = Path(equipoise.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LIMIT = 300  # seconds that all steps of one page may take
RUNNER = """
import json, subprocess, sys, types
page, steps = json.load(sys.stdin)
sys.modules["__main__"] = types.ModuleType("__main__")
namespace = vars(sys.modules["__main__"])
for step in steps:
    print(f"{page}:{step['line']}", flush=True)
    if step["kind"] == "python":
        source = "\\n" * (step["line"] - 1) + step["source"]
        exec(compile(source, page, "exec"), namespace)
    else:
        print("$", step["source"], flush=True)
        subprocess.run(["bash", "-euo", "pipefail", "-c", step["source"]], check=True, stdin=subprocess.DEVNULL)
"""


def run_steps(page: Path, folder: Path, limit: float = LIMIT) -> None:
    """Run the steps of a page in order, in one namespace and one folder; fail with what they printed."""
    script = json.dumps([str(page), [asdict(step) for step in steps(page.read_text())]])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"PATH": path, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    try:
        result = subprocess.run(
            [sys.executable, "-c", RUNNER],
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        printed = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout
        pytest.fail(f"{page} took longer than {limit} seconds; it printed\n{printed}", pytrace=False)
    if result.returncode and "EQUIPOISE_DATA" in result.stdout and not os.environ.get("EQUIPOISE_DATA"):
        pytest.skip("EQUIPOISE_DATA is not set")
    if result.returncode:
        pytest.fail(f"{page} does not run as written:\n{result.stdout}", pytrace=False)


def has_steps(page: Path) -> bool:
    """Whether there is anything to run; a page that cannot be read has its test, which then says so."""
    try:
        return bool(steps(page.read_text()))
    except BlockError:
        return True


@pytest.mark.parametrize("page", [page for page in PAGES if has_steps(page)], ids=lambda page: page.name)
def test_every_step_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    run_steps(page, tmp_path)


def modules_with_examples() -> list[str]:
    files = [file for file in sorted(HOUSE.rglob("*.py")) if ">>> " in file.read_text()]
    names = [".".join((HOUSE.name, *file.relative_to(HOUSE).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_every_example_of_a_module_gives_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(example, out=printed.append)
    assert runner.tries, f"{name} shows >>> but none of it is in a docstring that doctest finds"
    assert not runner.failures, "".join(printed)


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert equipoise.__version__ == declared
    assert f"\nversion: {declared}\n" in (ROOT / "CITATION.cff").read_text()


PAGE = """# Title

```python
total = 1
```

Text, and a list:

1. indented

   ```python title="more"
   total += 1
   ```

```console
$ equipoise list --names \\
>   --json
output that is not run
$ ls
```

```bash
pip install equipoise
equipoise train grid  # not run: takes an hour
equipoise list | head -n 1
```

```yaml
python: 1
```
"""


def test_the_steps_of_a_page_are_found_in_order() -> None:
    assert steps(PAGE) == [
        Step("python", 4, "total = 1\n"),
        Step("python", 12, "total += 1\n"),
        Step("command", 16, "equipoise list --names --json"),
        Step("command", 25, "equipoise list | head -n 1"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\n\n```\n", "line 1: this block of Python is empty"),
        ("\n```py\nx = 1\n```\n", "line 2: a block is called 'py'"),
        ("```Python\nx = 1\n```\n", "write python"),
        ("```python\nx = 1\n", "never closed"),
        ("````python\nx = 1\n```\n", "never closed"),
        ("```bash\nequipoise list  # not run:\n```\n", "line 2: say why"),
    ],
)
def test_a_block_that_cannot_be_read_is_an_error(text: str, message: str) -> None:
    with pytest.raises(BlockError, match=message):
        steps(text)


def test_blocks_of_a_page_share_a_namespace_and_a_folder(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nfrom pathlib import Path\nx = 2\n```\n"
        "```python\nassert x == 2\nPath('made').write_text('here')\n```\n"
        "```python\nassert Path('made').read_text() == 'here'\n```\n"
    )
    run_steps(page, tmp_path)
    assert (tmp_path / "made").read_text() == "here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Text\n```python\nx = 1\nassert x == 2\n```\n", 'page.md", line 4'),
        ("```bash\nequipoise-is-not-the-command\nequipoise no-such-subcommand\n```\n", "page.md:3"),
        ("```python\nimport time\nprint('begun', flush=True)\ntime.sleep(60)\n```\n", "begun"),
    ],
    ids=["python", "command", "limit"],
)
def test_a_step_that_fails_fails_its_page_and_says_where(text: str, message: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(pytest.fail.Exception, match=message):
        run_steps(page, tmp_path, limit=20 if message != "begun" else 3)


def test_a_page_that_wants_data_skips_only_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nraise ValueError('name a folder by EQUIPOISE_DATA')\n```\n")
    monkeypatch.delenv("EQUIPOISE_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="EQUIPOISE_DATA is not set"):
        run_steps(page, tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="name a folder"):
        run_steps(page, tmp_path)
