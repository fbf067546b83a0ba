"""A mistake in a spec is answered with its file and line and, where there is one, the word that was meant."""

from __future__ import annotations

import dataclasses
import re
import shutil

import pytest

from normspec.codegen import schema
from normspec.codegen.reader import SpecError
from normspec.codegen.resolve import load
from suite import ROOT

OPERATOR, DIALECT, CLASS = "operators/batch_norm.yaml", "storch/dialect.yaml", "storch/BatchNorm2d.yaml"


def line(file: str, text: str) -> int:
    """The number of the first line that has ``text``."""
    lines = (ROOT / "specs" / file).read_text().splitlines()
    return next(number for number, one in enumerate(lines, 1) if text in one)


def broken(tmp_path, *changes: tuple[str, str, str]) -> list[str]:
    """What is said of the specs after these replacements."""
    specs = tmp_path / "specs"
    shutil.copytree(ROOT / "specs", specs, ignore=lambda folder, names: [])
    for other in ("lucid", "tripy", "nvtripy", "torch"):
        shutil.rmtree(specs / other, ignore_errors=True)
    for file, good, bad in changes:
        text = (specs / file).read_text()
        assert good in text, f"{good!r} is not in {file}"
        (specs / file).write_text(text.replace(good, bad, 1))
    with pytest.raises(SpecError) as error:
        load(specs)
    return str(error.value).splitlines()


# file, what stands there, what is written instead, the line where it stands, what is said
MISTAKES = [
    # keys
    (CLASS, "summary:", "sumary:", "summary:", "variant has no key 'sumary'; did you mean 'summary'?"),
    (CLASS, "summary: Applies Batch Normalization over a 4D input.\n", "", "variant:", "variant needs a 'summary'"),
    (DIALECT, "binds: epsilon,", "bind: epsilon,", "eps: {binds", "argument has no key 'bind'; did you mean 'binds'?"),
    (DIALECT, "      eps: {", "      momentum: {", "momentum: {binds", "'momentum' is given twice"),
    (CLASS, "operator: batch_norm", "[operator]: batch_norm", "operator:", "a key must be a word, not a list"),
    # types of values
    (CLASS, "summary: Applies Batch Normalization over a 4D input.", "summary: 3", "summary:", "expected str, found 3"),
    (CLASS, "summary: Applies Batch Normalization over a 4D input.", "summary: [a]", "summary:", "expected str, found a list"),
    (DIALECT, "twins: true", "twins: maybe", "twins:", "expected bool, found 'maybe'"),
    (DIALECT, "single_value: refuse", "single_value: refuze", "single_value:", "'refuze' is not one of refuse, accept; did you mean 'refuse'?"),
    (DIALECT, "fixed: {strict: false}", "fixed: strict", "loadStateDict:", "expected a mapping, found 'strict'"),
    # parameters
    (DIALECT, "default: 1e-5", "default: tiny", "eps: {binds", "the default of 'eps' is 'tiny', which is not float"),
    (DIALECT, "default: 1e-5", "default: true", "eps: {binds", "the default of 'eps' is True, which is not float"),
    (DIALECT, "binds: epsilon", "binds: epsilom", "eps: {binds", "'eps' binds 'epsilom', which is no parameter; did you mean 'epsilon'?"),
    (DIALECT, "{shifted: true,", "{shifted: true, track: true,", "trackRunningStats: {", "'trackRunningStats' binds 'track', which is bound or fixed already"),
    (DIALECT, "unbiased: true, ", "", "numFeatures: {", "the parameter 'unbiased' is neither bound nor fixed"),
    (DIALECT, "unbiased: true, ", "unbiassed: true, ", "numFeatures: {", "fixes 'unbiassed', which is no parameter; did you mean 'unbiased'?"),
    (DIALECT, "unbiased: true, ", "unbiased: 1, ", "numFeatures: {", "fixes 'unbiased' to 1, which is not bool"),
    (DIALECT, "binds: update_rate, default: 0.1", "binds: update_rate", "momentum: {binds", "'momentum' has no default, but 'eps' before it has one"),
    (DIALECT, "binds: affine, ", "binds: affine, type: boolean, ", "affine: {binds", "the type of 'affine' has 'boolean', which is no type; did you mean 'bool'?"),
    (DIALECT, "binds: affine, ", "binds: affine, type: 'f()', ", "affine: {binds", "the type of 'affine' is 'f()', which is no type"),
    (DIALECT, "counter_dtype: at_least_float32", "counter_dtype: none", "momentum: {binds", "'momentum' may be None, an average over all batches, but counter_dtype is none: nothing counts them"),
    (DIALECT, "counter_dtype: at_least_float32", "counter_dtype: none", "num_batches_tracked: {", "'num_batches_tracked' keeps 'count', but counter_dtype is none"),
    # names
    (DIALECT, "      eps: {", "      class: {", "eps: {binds", "'class' cannot be a name in Python"),
    (DIALECT, "      eps: {", "      e-p-s: {", "eps: {binds", "'e-p-s' cannot be a name in Python"),
    (DIALECT, "      eps: {", "      self: {", "eps: {binds", "'self' cannot be a name in Python"),
    (DIALECT, "  hasBias:", "  weight:", "numFeatures: {", "'weight' shadows another 'weight'"),
    (DIALECT, "  zeros: {does: tensor.zeros", "  float32: {does: tensor.zeros", "dialect: storch", "'float32' shadows another 'float32'"),
    (DIALECT, "      eps: {", "      num_features: {", "numFeatures: {", "'num_features' shadows another 'num_features'"),
    (CLASS, "variant: BatchNorm2d", "variant: BatchNorm4d", "variant:", "'BatchNorm4d' is in a file or folder named 'BatchNorm2d'"),
    # references from one level to another
    (CLASS, "operator: batch_norm", "operator: batchnorm", "variant:", "there is no operator 'batchnorm'; did you mean 'batch_norm'?"),
    (CLASS, "operator: batch_norm", "operator: linear", "variant:", "storch spells no operator 'linear'"),
    (CLASS, "HasWeight,", "HasWait,", "variant:", "'HasWait' is no supertype; did you mean 'HasWeight'?"),
    (CLASS, "{numFeatures})", "{numFeature})", "variant:", "the repr has 'numFeature', which is no parameter; did you mean 'numFeatures'?"),
    (CLASS, "{numFeatures})", "{numFeatures!r})", "variant:", "'BatchNorm2d(numFeatures={numFeatures!r})' may have plain {names} only"),
    (CLASS, "{numFeatures})", "{numFeatures)", "variant:", "'BatchNorm2d(numFeatures={numFeatures)' has unbalanced braces: expected '}' before end of string"),
    (CLASS, 'repr: "BatchNorm2d(', 'repr: "BatchNorm(', "variant:", "the repr must read BatchNorm2d(...)"),
    (CLASS, '={numFeatures})"', '={numFeatures}"', "variant:", "the repr must read BatchNorm2d(...)"),
    (CLASS, "={numFeatures})", "='{numFeatures}')", "variant:", "the repr must have no quotes, backslashes, line ends or doubled braces"),
    (DIALECT, "keeps: shift,", "keeps: offset,", "bias: {keeps", "'bias' keeps 'offset', which is no state"),
    (DIALECT, "does: module.evaluate,", "does: module.evaluat,", "eval: {does", "'eval' does 'module.evaluat', which is no function; did you mean 'module.evaluate'?"),
    (DIALECT, "dtypes: [float16,", "dtypes: [half,", "dialect: storch", "'half' is no element type"),
    (DIALECT, "exceptions: {}", "exceptions: {}\naliases: {half: float61}", "dialect: storch", "'half' stands for 'float61', which is no element type; did you mean 'float64'?"),
    (DIALECT, "names: [Tensor,", "names: [Tenser,", "dialect: storch", "'Tenser' cannot be exported; did you mean 'Tensor'?"),
    (DIALECT, "extends: [Module]", "extends: [Modul]", "doc: \"A module whose", "'HasParams' extends 'Modul', which is no trait; did you mean 'Module'?"),
    (DIALECT, "extends: [Module]", "extends: [HasParams]", "doc: \"A module whose", "'HasParams' extends 'HasParams', which is no trait"),
    (DIALECT, "extends: [Module]", "extends: []", "doc: \"A module whose", "'HasParams' extends nothing"),
    (DIALECT, "exceptions: {}", "exceptions: {Second: First, First: Exception}", "dialect: storch", "'First' is no exception"),
    (DIALECT, "exceptions: {}", "exceptions: {Only: Only}", "dialect: storch", "'Only' is no exception"),
    (DIALECT, "default: 1e-5", "default: 1e999", "eps: {binds", "the default of 'eps' is inf, which is not float"),
    (DIALECT, "  hasBias:", "  training:", "numFeatures: {", "'training' shadows another 'training'"),
    (DIALECT, "  hasBias:", "  _refuse:", "numFeatures: {", "'_refuse' begins with an underscore, as names of the runtime do"),
    (DIALECT, "  hasBias:", "  __init__:", "hasBias:", "'__init__' cannot be a name in Python"),
    (DIALECT, "  zeros: {does: tensor.zeros", "  DIALECT: {does: tensor.zeros", "dialect: storch", "'DIALECT' shadows another 'DIALECT'"),
    (DIALECT, 'dtype: "{name}"', 'dtype: "{nam}"', "dialect: storch", "'{nam}' has no field 'nam'; did you mean 'name'?"),
    (DIALECT, 'dtype: "{name}"', 'dtype: "{name.__class__}"', "dialect: storch", "'{name.__class__}' may have plain {names} only"),
    (DIALECT, "  module: arguments", "  module: members", "dialect: storch", "modules that print as members need 'member' and 'child', how each of these prints"),
    (DIALECT, "  module: arguments", "  module: members\n  child: '{name}: {kind}'\n  member: '{name}'", "dialect: storch", "'{name}: {kind}' has no field 'kind'"),
    (DIALECT, "  module: arguments", "  module: members\n  member: '{name}!'", "dialect: storch", "modules that print as members need 'member' and 'child', how each of these prints"),
    (DIALECT, "devices: {cpu: CPU,", "devices: {cpu: 'CPU {indx}',", "dialect: storch", "'CPU {indx}' has no field 'indx'; did you mean 'index'?"),
    (DIALECT, "devices: {cpu: CPU,", "devices: {gpu: CPU,", "dialect: storch", "the devices must be cpu and cuda; 'cpu' is missing or not one"),
    (DIALECT, "devices: {cpu: CPU,", "devices: {gpu: CPU,", "dialect: storch", "the devices must be cpu and cuda; 'gpu' is missing or not one"),
    (CLASS, "module: nn", "module: ../evil", "variant:", "'../evil' cannot be a module in Python"),
    (CLASS, "input: [N C H W]", "input: [N]", "variant:", "'N' is no shape: at least two words, such as N C or N C ..."),
    (CLASS, "supertypes: [HasParams, HasWeight, TensorModule]", "supertypes: []", "variant:", "there must be a supertype, Module at least"),
    (CLASS, "summary: Applies Batch Normalization over a 4D input.", "summary: !!int abc", "summary:", "expected str, found 'abc'"),
    (CLASS, "summary: ", 'summary: "\\0" # ', "summary:", "the character '\\x00' cannot be written to a file"),
    (DIALECT, "threshold: 0", "threshold: 010", "threshold:", "expected int, found 10.0"),
    (DIALECT, "threshold: 0", "threshold: !!bool maybe", "threshold:", "expected int, found 'maybe'"),
    (DIALECT, "threshold: 0", "threshold: !!timestamp now", "threshold:", "expected int, found 'now'"),
    (DIALECT, "threshold: 0", "threshold: !!int ''", "threshold:", "expected int, found ''"),
    (DIALECT, "clause: state_dict", "clause: state", "about: num_batches_tracked", "there is no clause 'state'; did you mean 'state_dict'?"),
    (DIALECT, "    clause: state_dict\n", "    clause: state_dict\n    operator: linear\n", "about: num_batches_tracked", "storch spells no operator 'linear'"),
    (OPERATOR, "when: [affine]", "when: [afine]", "scale: {shape", "'scale' names 'afine', which is no parameter; did you mean 'affine'?"),
    (OPERATOR, "sqrt(variance + {epsilon})", "sqrt(variance + {epsilom})", "operator: batch_norm", "the equation has 'epsilom', which is nothing; did you mean 'epsilon'?"),
    (OPERATOR, "of: epsilon, needs: a real", "of: epsilom, needs: a real", "epsilon_type:", "'epsilon_type' is of 'epsilom', which is no parameter; did you mean 'epsilon'?"),
    (OPERATOR, "of: epsilon, needs: a real number, ", "of: epsilon, ", "epsilon_type:", "'epsilon_type' needs both 'of' and 'needs', or neither"),
    ("operators/linear.yaml", "raises: [dtype_type,", "raises: [dtype_typ,", "operator: linear", "linear raises 'dtype_typ', which is no condition; did you mean 'dtype_type'?"),
    (OPERATOR, "raises: [input_type,", "raises: [input_typ,", "doc: Normalizes each feature of an input;", "a function raises 'input_typ', which is no condition; did you mean 'input_type'?"),
    # messages
    (DIALECT, "  rank: {raises: RuntimeError,", "  rank: {raises: RuntimeEror,", "rank: {raises", "'RuntimeEror' is no exception"),
    (DIALECT, "  rank: {", "  rang: {", "rank: {raises", "there is no condition 'rang'; did you mean 'rank'?"),
    (DIALECT, "{ranks} input", "{ranges} input", "rank: {raises", "'rank' has no field 'ranges'; did you mean 'ranks'?"),
    (DIALECT, "  rank: {raises: RuntimeError, text: \"expected {ranks} input (got {rank}D input)\"}\n", "", "dialect: storch", "the condition 'rank' has no message"),
    (DIALECT, "  rank: {raises: RuntimeError,", "  rank: {", "rank: {raises", "'rank' needs either 'raises' and 'text' or 'never'"),
    (DIALECT, "epsilon: {never: libtorch accepts any eps.}", "epsilon: {raises: ValueError}", "  epsilon: {never", "'epsilon' needs either 'raises' and 'text' or 'never'"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "good", "bad", "at", "said"), MISTAKES, ids=[said for *_, said in MISTAKES])
def test_a_mistake_is_explained(tmp_path, file, good, bad, at, said):
    found = broken(tmp_path, (file, good, bad))
    assert any(one.endswith(f": {said}") for one in found), found
    where = next(one for one in found if one.endswith(f": {said}")).removesuffix(f": {said}")
    assert where.startswith(f"specs/{file}:"), where
    expected = line(file, at)
    assert abs(int(where.rpartition(":")[2]) - expected) <= 1, f"{where}, not line {expected}"


def test_broken_yaml_is_explained(tmp_path):
    found = broken(tmp_path, (CLASS, "summary: Applies", "summary: [Applies"))
    assert found == [f"specs/{CLASS}:{line(CLASS, 'input:')}: broken YAML: expected ',' or ']', but got ':'"] or (
        found[0].startswith(f"specs/{CLASS}:") and "broken YAML: " in found[0] and len(found) == 1
    )


def test_an_empty_file_is_explained(tmp_path):
    specs = tmp_path / "specs"
    shutil.copytree(ROOT / "specs", specs)
    (specs / CLASS).write_text("# nothing yet\n")
    with pytest.raises(SpecError) as error:
        load(specs)
    assert str(error.value) == f"specs/{CLASS}:1: the file is empty"


def test_text_in_another_encoding_is_explained(tmp_path):
    specs = tmp_path / "specs"
    shutil.copytree(ROOT / "specs", specs)
    (specs / CLASS).write_bytes("summary: é".encode("latin-1"))
    with pytest.raises(SpecError) as error:
        load(specs)
    assert str(error.value) == f"specs/{CLASS}:1: not UTF-8 text: unexpected end of data"


def test_a_class_without_a_dialect_is_explained(tmp_path):
    specs = tmp_path / "specs"
    shutil.copytree(ROOT / "specs", specs)
    (specs / "orphan").mkdir()
    shutil.copy(specs / CLASS, specs / "orphan" / "BatchNorm2d.yaml")
    with pytest.raises(SpecError) as error:
        load(specs)
    assert str(error.value) == "specs/orphan/BatchNorm2d.yaml:2: there is no orphan/dialect.yaml beside it"


def test_specs_without_the_operator_that_every_dialect_needs_are_explained(tmp_path):
    specs = tmp_path / "specs"
    shutil.copytree(ROOT / "specs", specs)
    (specs / "operators" / "module.yaml").unlink()
    with pytest.raises(SpecError, match=r"specs:1: there is no operators/module\.yaml"):
        load(specs)


def test_all_mistakes_are_reported_at_once(tmp_path):
    found = broken(
        tmp_path,
        ("storch/BatchNorm1d.yaml", "summary:", "sumary:"),
        (CLASS, "input: [N C H W]", "input: {a: 1}"),
        (DIALECT, "twins: true", "twins: 1"),
        (OPERATOR, "axis: {type: int,", "axis: {typ: int,"),
    )
    assert {one.partition(":")[0] for one in found} == {
        "specs/storch/BatchNorm1d.yaml",
        f"specs/{CLASS}",
        f"specs/{DIALECT}",
        f"specs/{OPERATOR}",
    }


def test_a_float_may_be_written_as_people_write_it():
    from suite import CLASSES

    eps = next(one for one in CLASSES["storch.nn.BatchNorm1d"][1].arguments if one.name == "eps")
    assert "default: 1e-5" in (ROOT / "specs" / DIALECT).read_text()
    assert (eps.value, eps.default) == (1e-5, "1e-05")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system [true]", "&a [*a]", "[" * 5000])
def test_a_spec_cannot_run_code_or_refer_to_itself(tmp_path, text):
    found = broken(tmp_path, (CLASS, "summary: Applies Batch Normalization over a 4D input.", f"summary: {text}"))
    assert all(one.startswith(f"specs/{CLASS}:") for one in found)


def test_every_key_is_explained():
    explained = set(re.findall(r"\w+", " ".join(re.findall("`([^`]*)`", (ROOT / "specs" / "README.md").read_text()))))
    kinds = [
        one for one in vars(schema).values() if dataclasses.is_dataclass(one) and one.__module__ == schema.__name__
    ]
    assert schema.VariantSpec in kinds
    keys = {field.name for kind in kinds for field in dataclasses.fields(kind)} - {"where"}
    assert keys <= explained, keys - explained
