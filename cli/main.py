"""The commands: ``normspec generate``, ``list``, ``show`` and those in ``COMMANDS``."""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import doctor, reference
from .terminal import Line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="normspec", description="Batch normalization in every framework's spelling.")
    parser.add_argument(
        "command", metavar="command", help="; ".join(f"{name}: {one.__doc__}" for name, one in COMMANDS.items())
    )
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"normspec: no command {name!r}{_hint(name, COMMANDS)}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack the letters γ and β
    try:
        status = COMMANDS[name](rest)
        print(end="", flush=True)
        return status
    except BrokenPipeError:  # whoever read has read enough; what Python flushes at its end has to go somewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"normspec {name}: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        extra = EXTRAS.get(name)
        if extra is None or not error.name or error.name.startswith("normspec"):
            raise
        print(f"normspec {name} needs {error.name}: pip install 'normspec[{extra}]'", file=sys.stderr)
        return 1


def generate(arguments: Sequence[str]) -> int:
    """write generated/ from specs/ (--check: only compare)"""
    from normspec.codegen.__main__ import main as run

    return run(list(arguments))


def list_(arguments: Sequence[str]) -> int:
    """the dialects and their classes"""
    argparse.ArgumentParser(prog="normspec list", description=list_.__doc__).parse_args(arguments)
    for dialect in reference.dialects():
        module = importlib.import_module(f"normspec.{dialect}")
        print(f"{dialect:8} {' '.join(str(module.__doc__).split())}")
        for name in reference.normalizing(dialect):
            print(f"         {name}")
    return 0


def show(arguments: Sequence[str]) -> int:
    """what a class, method, function or dialect is: normspec show storch.nn.BatchNorm1d"""
    parser = argparse.ArgumentParser(prog="normspec show", description=show.__doc__)
    parser.add_argument(
        "name", help="such as storch, storch.BatchNorm1d, storch.nn.BatchNorm1d.loadStateDict or runtime.Tensor"
    )
    name = parser.parse_args(arguments).name
    known = reference.packages()
    package = next((one for one in known if f"{name}.".startswith(f"{one}.")), None)
    if package is None:
        word = name.partition(".")[0]
        print(f"normspec show: no dialect {word!r}{_hint(word, known)}", file=sys.stderr)
        return 1
    rest = name[len(package) + 1 :]
    try:
        text = reference.of_member(package, rest) if rest else reference.of_dialect(package)
    except ModuleNotFoundError as error:
        print(f"normspec show: {package} needs {error.name}, which is not installed", file=sys.stderr)
        return 1
    if text is None:
        print(f"normspec show: {package} has no {rest!r}{_hint(name, reference.members(package))}", file=sys.stderr)
        return 1
    print(text)
    return 0


def demo(arguments: Sequence[str]) -> int:
    """batch norm through every dialect on photographs and digits, with a picture"""
    from normspec.demo import main as run

    return run(list(arguments))


def conformance(arguments: Sequence[str]) -> int:
    """hold every class to its specs; print the matrix and write it as a page"""
    from normspec.codegen.__main__ import ROOT
    from normspec.codegen.resolve import load
    from normspec.conformance import matrix

    parser = argparse.ArgumentParser(prog="normspec conformance", description=conformance.__doc__)
    default = Path("out") / "conformance.md"
    parser.add_argument("--output", type=Path, default=default, help="Markdown page to write (%(default)s)")
    output = parser.parse_args(arguments).output
    line, cells = Line(), []
    for cell in matrix.run(load(ROOT / "specs")):
        cells.append(cell)
        line(f"{cell.row}: {cell.clause}")
    line.done()
    print(matrix.table(cells))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(matrix.page(cells), encoding="utf-8")
    print(f"written to {output}")
    failed = [cell for cell in cells if cell.result == "failed"]
    for cell in failed:
        print(f"{cell.row}, {cell.clause}: {cell.reason}", file=sys.stderr)
    return 1 if failed else 0


def warmup(arguments: Sequence[str]) -> int:
    """compile the kernels of the CPU ahead of the first call, for every process of this user"""
    from normspec.runtime.dtypes import FLOATING, DType
    from normspec.runtime.kernels import cpu

    argparse.ArgumentParser(prog="normspec warmup", description=warmup.__doc__).parse_args(arguments)
    known = [name for name in FLOATING if name != "bfloat16" or importlib.util.find_spec("ml_dtypes")]
    line, began = Line(), time.perf_counter()
    for number, name in enumerate(cpu.warm([DType(name).numpy for name in known])):
        line(f"kernel {number + 1} of {3 * len(known)}, {name}")
    line.done()
    kept = f"kept in {cpu.cache_path()}" if cpu.cache_path() else "not kept: no folder for them can be written to"
    print(f"{3 * len(known)} kernels, {time.perf_counter() - began:.1f} s; {kept}")
    return 0


def bench(arguments: Sequence[str]) -> int:
    """time ours beside torch, ONNX Runtime, JAX and NumPy"""
    from normspec.benchmarks import main as run

    return run(list(arguments))


def bench_training(arguments: Sequence[str]) -> int:
    """time a training step inside torch, with its batch norm and with ours"""
    from normspec.benchmarks.training import main as run

    return run(list(arguments))


def bench_gpu(arguments: Sequence[str]) -> int:
    """time the CUDA kernels beside torch, cuDNN and torch.compile"""
    from normspec.benchmarks.gpu import main as run

    return run(list(arguments))


def kernels(arguments: Sequence[str]) -> int:
    """compile every CUDA kernel, without a GPU, and say what each takes"""
    from . import kernels as command

    return command.main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "generate": generate,
    "list": list_,
    "show": show,
    "demo": demo,
    "doctor": doctor.main,
    "conformance": conformance,
    "warmup": warmup,
    "bench": bench,
    "kernels": kernels,
    "bench-training": bench_training,
    "bench-gpu": bench_gpu,
}

EXTRAS = {
    "generate": "codegen",
    "conformance": "codegen",
    "demo": "demo",
    "bench": "bench",
    "bench-training": "bench",
    "bench-gpu": "bench",
}


def _hint(word: str, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


if __name__ == "__main__":
    sys.exit(main())
