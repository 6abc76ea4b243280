"""Libraries that run a network in place of torch, by name: the same network in the same arithmetic, on the CPU.

torch writes the network as ONNX, once, and the library compiles that for this processor. The TorchScript exporter of
torch does it in a tenth of the time of the newer one, which would need the package onnxscript besides.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gen_eval.errors import UnknownName, UsageError
from gen_eval.precision import full_precision

TORCH = "torch"
_INPUT = "images"
_HINTS = {"fp32": "f32", "bf16": "bf16"}  # precisions as OpenVINO calls them

# From an array [b, 3, s, s] float32 to one [b, d] for each output.
Run = Callable[[Any], Sequence[Any]]


@dataclass(frozen=True)
class Library:
    """A library that runs networks on the CPU.

    Args:
        load: imports it.
        precisions: names in :data:`gen_eval.precision.PRECISIONS` that it computes in on this processor.
        compile: from an ONNX file, a precision and a number of threads to a function.
    """

    load: Callable[[], Any]
    precisions: Callable[[], Collection[str]]
    compile: Callable[[Path, str, int], Run]


class Exported:
    """A module that a library runs.

    It is converted when its first images come, and again only for other taps: the FID Inception in 2 s of one core of
    2.4 GHz. Batches of all sizes go through what is then there.

    Args:
        net: called with ``[b, 3, size, size]`` and taps, gives ``{tap: [b, d]}``; on the CPU.
        size: side of the images, in pixels.
        library: what is to run it.
        precision: one of the library's.
    """

    def __init__(self, net: nn.Module, size: int, library: Library, precision: str) -> None:
        self._net, self._size = net, size
        self._library, self._precision = library, precision
        self._runs: dict[tuple[str, ...], Run] = {}

    def __call__(self, x: Tensor, taps: Collection[str]) -> dict[str, Tensor]:
        """``[b, 3, size, size]`` float32 normalised pixels to ``{tap: [b, d] float32}``."""
        wanted = tuple(taps)
        if wanted not in self._runs:
            self._runs[wanted] = self._convert(wanted)
        outputs = self._runs[wanted](x.contiguous().numpy())
        return {tap: torch.from_numpy(output) for tap, output in zip(wanted, outputs, strict=True)}

    def _convert(self, taps: tuple[str, ...]) -> Run:
        with tempfile.TemporaryDirectory(prefix="gen_eval", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "network.onnx"
            _export(_Outputs(self._net, taps).eval(), self._size, path)
            return self._library.compile(path, self._precision, torch.get_num_threads())


class _Outputs(nn.Module):
    """The taps of a network in their order, as exporters take them."""

    def __init__(self, net: nn.Module, taps: tuple[str, ...]) -> None:
        super().__init__()
        self._net, self._taps = net, taps

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = self._net(x, self._taps)
        return tuple(found[tap] for tap in self._taps)


def _export(net: nn.Module, size: int, path: Path) -> None:
    # The caller's autocast would be written down as casts of the network.
    with torch.inference_mode(False), torch.no_grad(), full_precision("cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that the newer exporter is newer
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, size, size),),
            str(path),
            input_names=[_INPUT],
            dynamic_axes={_INPUT: {0: "batch"}},
            dynamo=False,
        )


def _import_onnxruntime() -> Any:
    import onnxruntime

    return onnxruntime


def _compile_for_onnxruntime(path: Path, precision: str, threads: int) -> Run:
    library = _import_onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    session = library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: list(session.run(None, {_INPUT: images}))


def _compile_for_openvino(path: Path, precision: str, threads: int) -> Run:
    core = _import_openvino().Core()
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
    }
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    if (found := compiled.get_property("INFERENCE_PRECISION_HINT").to_string()) != _HINTS[precision]:
        raise UsageError(f"OpenVINO was asked for {precision} and chose {found}: use --precision fp32")
    return lambda images: list(compiled([images]).values())


def _openvino_precisions() -> list[str]:
    # It takes any hint, and computes in float32 where the processor has no instructions for another.
    known: list[str] = _import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["fp32", *(["bf16"] if "BF16" in known else [])]


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which tells Google Analytics of each import unless the user opted out."""
    telemetry = "openvino_telemetry"
    before = {name: module for name, module in sys.modules.items() if name == telemetry}
    sys.modules[telemetry] = None  # type: ignore[assignment]  # OpenVINO then takes a stub of its own
    try:
        import openvino
    finally:
        del sys.modules[telemetry]
        sys.modules.update(before)
    return openvino


# None stands for the module itself, as torch runs it.
BACKENDS: Mapping[str, Library | None] = {
    TORCH: None,
    "onnxruntime": Library(_import_onnxruntime, lambda: ["fp32"], _compile_for_onnxruntime),
    "openvino": Library(_import_openvino, _openvino_precisions, _compile_for_openvino),
}


def settle_backend(backend: str, device: torch.device, precision: str) -> Library | None:
    """The library of a name, if it is here and has the precision on this processor; ``None`` for torch.

    Args:
        backend: a name in :data:`BACKENDS`.
        device: where the network is to run.
        precision: a name in :data:`gen_eval.precision.PRECISIONS`.

    Raises:
        UnknownName: if there is no such backend.
        UsageError: if it is not installed, or cannot run on the device or in the precision.
    """
    library = _find(backend)
    if library is None:
        return None
    if device.type != "cpu":
        raise UsageError(
            f"backend {backend} runs networks on the CPU, and this is {device}: use --device cpu, or --backend torch"
        )
    try:
        library.load()
        importlib.import_module("onnx")  # which torch writes with
    except ImportError as error:
        raise UsageError(
            f'backend {backend} is not installed ({error}): pip install "gen_eval[{backend}]"'
        ) from error
    if precision not in (known := library.precisions()):
        raise UsageError(
            f"backend {backend} does not compute in {precision} on this processor, only in {' and '.join(known)}: use "
            "that, or --backend torch"
        )
    return library


def describe(backend: str) -> str:
    """A backend with its version, for the record: ``"openvino 2026.4.1"``."""
    version: str = importlib.import_module(backend).__version__
    return f"{backend} {version.partition('-')[0].partition('+')[0]}"


def _find(backend: str) -> Library | None:
    if backend not in BACKENDS:
        raise UnknownName("backend", backend, BACKENDS)
    return BACKENDS[backend]
