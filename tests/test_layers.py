"""The plan of the house: who may import whom, how long files are, and what lands in site-packages."""

from __future__ import annotations

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).parents[1]
LONGEST = 450  # lines of a file; about 400 is what we aim for

# Each room and the rooms it may import, which stand above it: whatever this allows goes downwards only.
# A room is a module or a package of gen_eval. A package's own modules are one room, but for the engines:
# they are every module of gen_eval.metrics except the table.
BASE = ("errors", "progress")
ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "progress": (),
    "distributed": ("errors",),
    "spec": ("errors",),
    "download": BASE,
    "fetch": (*BASE, "download"),
    "draws": ("errors",),
    "latent": ("errors", "draws"),
    "sealed": ("errors",),
    "precision": (),
    "threads": (),
    "parallel": ("threads",),
    "transfer": (),
    "stats": ("errors", "transfer"),
    "resize": ("errors", "spec", "transfer"),
    "engines": ("errors", "precision", "parallel", "transfer", "stats"),
    "metrics": ("errors", "stats", "engines"),
    "images": (*BASE, "threads"),
    "extractors": (*BASE, "spec", "fetch", "precision", "parallel", "transfer"),
    "datasets": (*BASE, "fetch"),
    "protocols": ("errors",),
    "terms": ("spec", "extractors", "protocols"),
    "labels": ("errors", "images"),
    "nearest": ("errors", "stats", "engines"),
    "disturbances": (*BASE, "threads", "stats", "images"),
    "zoo": (
        *(*BASE, "sealed", "draws", "latent", "precision", "threads", "engines", "images", "datasets"),
        *("labels", "disturbances"),
    ),
    "summary": ("errors", "spec", "stats", "extractors"),
    "passing": (*BASE, "spec", "threads", "transfer", "stats", "resize", "images", "extractors", "summary"),
    "streaming": ("errors", "spec", "stats", "resize", "images", "summary", "passing"),
    "foreign": ("errors", "sealed", "stats"),
    "merging": ("errors", "spec", "stats", "summary"),
    "compact": ("errors", "stats", "engines"),
    "store": ("errors", "fetch", "sealed", "spec", "stats", "compact", "foreign", "summary"),
    "exporting": ("errors", "spec", "protocols", "terms", "foreign", "summary"),
    "cache": (*BASE, "sealed", "spec", "images", "extractors", "summary", "passing", "store"),
    "references": (*BASE, "spec", "fetch", "datasets", "images", "summary", "passing", "store", "cache"),
    "sources": (
        *(*BASE, "sealed", "stats", "foreign", "images", "datasets", "extractors", "zoo"),
        *("summary", "passing", "store", "references"),
    ),
    "contributions": ("stats",),
    "direction": (),
    "result_terms": ("errors", "direction"),
    "results": ("errors", "spec", "contributions", "result_terms"),
    "comparison": ("errors", "direction", "contributions", "results"),
    "explanation": ("errors", "direction", "metrics", "protocols", "terms", "results"),
    "selection": ("errors", "results", "comparison"),
    "dequantization": ("errors", "images", "passing", "sources"),
    "likelihood": (*BASE, "engines", "images", "sources", "results", "dequantization"),
    "planning": (*BASE, "stats", "metrics", "images", "extractors", "summary", "passing", "protocols"),
    "scoring": ("errors", "stats", "metrics", "extractors", "labels", "summary", "results", "protocols"),
    "evaluation": (
        *BASE,
        *("stats", "metrics", "images", "extractors", "labels", "summary", "passing", "cache"),
        *("references", "sources", "results", "protocols", "planning", "scoring"),
    ),
    "bench": (
        *(*BASE, "precision", "stats", "resize", "images", "extractors", "metrics", "protocols", "passing"),
        *("fetch", "planning", "threads"),
    ),
    "monitor": (
        *("errors", "distributed", "spec", "metrics", "images", "extractors", "summary", "streaming"),
        *("results", "planning", "evaluation"),
    ),
    "integrations": ("errors", "metrics", "images", "extractors", "results", "selection", "monitor"),
    "perceptual": (
        *(*BASE, "spec", "resize", "engines", "images", "extractors", "latent", "sources", "planning"),
    ),
    "truncation": ("errors", "metrics", "latent", "results", "evaluation"),
    "sensitivity": (
        *(*BASE, "direction", "metrics", "images", "disturbances", "labels", "sources", "results"),
        *("protocols", "planning", "evaluation"),
    ),
    "validation": (
        *(*BASE, "sealed", "draws", "latent", "engines", "datasets", "zoo", "likelihood", "evaluation"),
    ),
    "two_sample": (
        *("errors", "extractors", "engines", "metrics", "sources", "results", "comparison", "evaluation"),
    ),
}
TABLE = ([], ["metric"], ["table"])
# What an engine may know besides: tensors in, numbers out.
ENGINE_LIBRARIES = {
    "__future__",
    "collections",
    "contextlib",
    "dataclasses",
    "faiss",
    "functools",
    "math",
    "numpy",
    "scipy",
    "threadpoolctl",
    "torch",
    "typing",
}
# Libraries of some rooms alone; those of none belong to the command line.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "click": (),
    "rich": (),
    **dict.fromkeys(("onnx", "onnxruntime", "openvino"), ("extractors",)),
    "safetensors": ("extractors", "sealed"),
    "torchdiffeq": ("zoo",),
    "zuko": ("zoo",),
    "urllib": ("download", "fetch"),
    **dict.fromkeys(("lightning", "pytorch_lightning", "torchmetrics"), ("integrations",)),
}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def room_of(module: str) -> str:
    """The room of a dotted name that starts in gen_eval; the package itself is room ``gen_eval``."""
    parts = module.split(".")
    if len(parts) == 1:
        return "gen_eval"
    return "engines" if parts[1] == "metrics" and parts[2:] not in TABLE else parts[1]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports, wherever in the file: submodules by their full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports are absolute"
            for name in node.names:
                module = f"{node.module}.{name.name}"
                within = str(node.module).startswith("gen_eval") and exists(module)
                yield node.lineno, module if within else str(node.module)


def test_rooms_are_listed_in_order():
    seen: set[str] = set()
    for room, allowed in ROOMS.items():
        assert set(allowed) <= seen, f"{room} may import what stands below it: {set(allowed) - seen}"
        seen.add(room)
    on_disk = {room_of(module_of(path)) for path in files("gen_eval")} - {"gen_eval"}
    assert on_disk == seen, "ROOMS must say what each room may import, and no more rooms than there are"


@pytest.mark.parametrize("path", files("gen_eval"), ids=module_of)
def test_imports_go_downwards(path):
    room = room_of(module_of(path))
    wrong = []
    for line, name in imports(path):
        top = name.split(".")[0]
        assert top not in ("gen_eval_cli", "cli", "tests"), f"{path}:{line} imports {name}"
        if top == "gen_eval" and room != "gen_eval" and room_of(name) not in (room, *ROOMS[room]):
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {room} may not import {name}")
        if room == "engines" and top not in {"gen_eval", *ENGINE_LIBRARIES}:
            wrong.append(f"{path.relative_to(ROOT)}:{line}: an engine may not import {name}")
        if top in ONLY_IN and room not in ONLY_IN[top]:
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {name} is for {ONLY_IN[top] or ('cli',)} alone")
    assert not wrong, "\n".join(wrong)


def test_a_wrong_import_would_be_found(tmp_path):
    """The walk sees imports in functions and under TYPE_CHECKING, and modules imported from packages."""
    path = tmp_path / "module.py"
    path.write_text(
        "def f():\n    from gen_eval.metrics import linalg\n    from gen_eval import store, fid\n"
    )
    assert [name for _, name in imports(path)] == ["gen_eval.metrics.linalg", "gen_eval.store", "gen_eval"]
    assert room_of("gen_eval.metrics.linalg") == "engines"
    assert room_of("gen_eval.metrics") == "metrics"
    assert room_of("gen_eval.images.files") == "images"


@pytest.mark.parametrize("path", [*files("gen_eval"), *files("cli")], ids=module_of)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_packages_are_those_on_disk():
    with (ROOT / "pyproject.toml").open("rb") as file:
        setuptools = tomllib.load(file)["tool"]["setuptools"]
    on_disk = {path.parent.relative_to(ROOT) for path in files("gen_eval")}
    on_disk |= {Path("cli"), Path("reference_stats")}
    named = {
        Path(setuptools["package-dir"].get(package, package.replace(".", "/")))
        for package in setuptools["packages"]
    }
    assert named == on_disk
    assert (ROOT / "gen_eval" / "py.typed").is_file()


@pytest.mark.network
def test_wheel_holds_the_package_alone(tmp_path):
    """Built in a copy, so that the checkout stays as it is."""
    source = tmp_path / "source"
    for folder in ("gen_eval", "cli", "tests", "reference_stats"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    isolation = ["--no-build-isolation"] if _has_setuptools() else []  # an isolated build asks an index
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        *isolation,
        "--wheel-dir",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if not isolation and "No matching distribution found for setuptools" in done.stderr:
        pytest.skip(f"no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gen_eval", "gen_eval_cli"}
    expected = {path.relative_to(ROOT).as_posix() for path in files("gen_eval")}
    expected |= {f"gen_eval/{path.relative_to(ROOT)}" for path in (ROOT / "reference_stats").glob("*.[!m]*")}
    assert expected | {"gen_eval/py.typed", "gen_eval_cli/main.py"} <= set(names)


def _has_setuptools() -> bool:
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0]) >= 70
    except importlib.metadata.PackageNotFoundError:
        return False
