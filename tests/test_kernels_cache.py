"""Compiled code on disk: new where a source is new, shared by processes, read where nothing can be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from normspec.runtime.kernels import files
from normspec.runtime.kernels.cpu import cache, kernels

MODULE = """
import sys
from normspec.runtime.kernels.cpu.jit import kernel

@kernel
def double(x):
    return x + x
"""
CALL = """
from kept import double
for kind in sys.argv[1:]:
    assert double({"int": int, "float": float, "complex": complex}[kind](21)) == 42
print(sum(double.stats.cache_hits.values()), sum(double.stats.cache_misses.values()), double.stats.cache_path)
"""
READ_ONLY = """
import errno, pathlib
def refuse(*_):
    raise OSError(errno.EROFS, "Read-only file system")
pathlib.Path.write_bytes = refuse
"""


CHANGED = """
from numba.core import compiler
del compiler.CompileResult._reduce, compiler.CompileResult._rebuild
"""


@pytest.fixture
def process(tmp_path):
    """A function that starts a process with a kernel of its own, and the folder where that is to be kept."""
    (tmp_path / "kept.py").write_text(MODULE)
    folder = tmp_path / "cache"
    known = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment = {**known, "NORMSPEC_CACHE": str(folder), "PYTHONPATH": str(tmp_path)}

    def start(*kinds, before="", **options):
        command = [sys.executable, "-c", "import sys\n" + before + CALL, *kinds]
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(command, text=True, env=environment, **given)

    return start, folder


def told(started):
    """What a process printed, which did as it should."""
    out, errors = started.communicate(timeout=120)
    assert started.returncode == 0, errors
    return out.strip(), errors


def test_what_was_compiled_is_loaded_by_the_next_process(process):
    start, folder = process
    assert told(start("int"))[0] == f"0 1 {folder}"
    assert told(start("int"))[0] == f"1 0 {folder}"
    assert told(start("int", "float"))[0] == f"1 1 {folder}"


@pytest.mark.parametrize("changed", ["simd.py", "statistics.py", "threads.py", "kernels.py"])
def test_every_source_counts(changed, monkeypatch):
    """A kernel is compiled anew when a function that it calls in another file has changed."""
    assert changed in [path.name for path in cache.FILES]
    assert (cache.FILES[0].parent / "simd.py").read_bytes() in cache.SOURCES
    before = cache.Cache(kernels.train.py_func)._digest.hexdigest()
    assert cache.Cache(kernels.train.py_func)._digest.hexdigest() == before
    monkeypatch.setattr(cache, "SOURCES", cache.SOURCES + b" ")
    assert cache.Cache(kernels.train.py_func)._digest.hexdigest() != before


def test_a_folder_that_is_read_only_is_read(process):
    start, folder = process
    told(start("int"))
    files = sorted(folder.iterdir())
    assert told(start("int", "float", before=READ_ONLY))[0] == f"1 1 {folder}"
    assert sorted(folder.iterdir()) == files


def test_no_folder_at_all_costs_only_time(process):
    start, _ = process
    assert told(start("int", before=READ_ONLY))[0] == "0 1 None"
    assert told(start("int"))[0].startswith("0 1 ")


def test_a_numba_that_keeps_code_otherwise_costs_only_time(process):
    start, folder = process
    log = "import logging; logging.basicConfig(level=logging.INFO)\n"
    out, errors = told(start("int", before=log + CHANGED))
    assert out == "0 1 None"
    assert "compiled code cannot be kept" in errors
    told(start("int"))
    assert len(list(folder.iterdir())) == 1
    assert told(start("int", before=CHANGED))[0] == "0 1 None"


def test_what_another_folder_has_is_copied_to_the_one_that_is_asked_for(process):
    start, folder = process
    told(start("int", before="import os; del os.environ['NORMSPEC_CACHE']\n"))
    assert told(start("int"))[0] == f"1 0 {folder}"
    assert len(list(folder.iterdir())) == 1


def test_processes_that_share_a_folder_do_not_disturb_each_other(process):
    start, folder = process
    kinds = ["int", "float", "complex"]
    for started in [start(kind) for kind in kinds for _ in range(2)]:
        told(started)
    assert len(list(folder.iterdir())) == 3
    assert told(start(*kinds))[0] == f"3 0 {folder}"


def test_a_file_that_is_not_whole_is_made_anew(process):
    start, folder = process
    told(start("int"))
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert told(start("int"))[0] == f"0 1 {folder}"
    assert told(start("int"))[0] == f"1 0 {folder}"


@pytest.mark.skipif(sys.platform == "win32", reason="no umask")
def test_others_may_read_what_one_user_has_kept(process):
    start, folder = process
    told(start("int", umask=0o022))
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_who_waits_in_a_terminal_is_told_why_once(process):
    start, _ = process
    for kinds, times in [(("int", "float"), 1), (("int", "float"), 0)]:
        ours, theirs = os.openpty()
        started = start(*kinds, stderr=theirs)
        os.close(theirs)
        told(started)
        try:
            said = os.read(ours, 10000).decode()
        except OSError:  # nothing was written, and the other end is closed
            said = ""
        os.close(ours)
        assert said.count("normspec warmup") == said.count("\n") == times


def test_nobody_else_is_told_unless_they_log(process):
    start, _ = process
    assert told(start("int"))[1] == ""
    log = "import logging; logging.basicConfig(level=logging.INFO)\n"
    assert "INFO:normspec:compiling kernels" in told(start("float", before=log))[1]


@pytest.mark.parametrize("variable", [None, "cache"])
def test_without_a_home_nothing_is_kept_in_or_loaded_from_the_working_folder(variable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False) if variable is None else monkeypatch.setenv(name, variable)
    with pytest.raises(NotADirectoryError if os.name == "posix" else OSError):
        files.write(files.users() / "code", b"1")
    assert files.read(files.users() / "code") is None
    assert not list(tmp_path.iterdir())
