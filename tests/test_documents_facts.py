"""The generated classes against recorded/documents.json: facts that a person copied from the originals' documents.

No spec is read here, so that a fact that a spec gets wrong, or leaves out, is missed by this file.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

RECORDED = json.loads((Path(__file__).parent / "recorded" / "documents.json").read_text(encoding="utf-8"))
CLASSES = {
    name: {**RECORDED["classes"].get(facts.get("like"), {}), **facts} for name, facts in RECORDED["classes"].items()
}
TYPES = {"Int": "int", "Double": "float", "Boolean": "bool", "DeviceLike": "DeviceLike | None"}
TYPES["DTypeLike"] = "DTypeLike | None"
ANNOTATIONS = {"dtype": "DTypeLike", "DeviceLike | None": "str | None"}  # where these differ from the docstring's


def each(kind):
    """A test for every class and fact; one for a fact that is pending is expected to fail."""
    cases = []
    for name, facts in CLASSES.items():
        found = facts.get(kind, [])
        for key, fact in found.items() if isinstance(found, dict) else enumerate(found):
            reason = fact.get("pending") if isinstance(fact, dict) else None
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            label = fact["name"] if isinstance(fact, dict) and "name" in fact else key
            whole = (key, fact) if isinstance(found, dict) else fact
            cases.append(pytest.param(name, whole, marks=marks, id=f"{name}-{label}"))
    return pytest.mark.parametrize(("name", "fact"), cases)


def every_class(kind):
    return pytest.mark.parametrize("name", [name for name, facts in CLASSES.items() if facts.get(kind)])


def package_of(name):
    return importlib.import_module(f"normspec.{name.partition('.')[0]}")


def class_of(name):
    module, _, cls = name.rpartition(".")
    return getattr(importlib.import_module(f"normspec.{module}"), cls)


def batch(name, *values, rank=None):
    """An input of one feature that holds the values."""
    rank = min(CLASSES[name]["accepts"]) if rank is None else rank
    return np.array(values, np.float32).reshape(-1, 1, *[1] * (rank - 2))


def kind_of(text):
    """The type of a document as docstrings write it here."""
    words = text.split(" or ")
    return " | ".join([TYPES.get(words[0], words[0]), *words[1:]])


def plain(text):
    return " ".join(text.replace("``", "").replace("’", "'").split())


def corrected(text):
    for one in RECORDED["corrections"]:
        text = text.replace(one["document"], one["here"])
    return text


def says(text, sentence):
    """Whether the text has the sentence; its first letter may be a capital in one and not in the other."""
    sentence = plain(corrected(sentence))
    return any(first + sentence[1:] in plain(text) for first in {sentence[:1].upper(), sentence[:1].lower()})


def section(cls, title):
    """The entries of a section of a docstring: heading and text by name."""
    doc = inspect.cleandoc(cls.__doc__)
    body = re.search(rf"^{title}\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)[1]
    entries = re.findall(r"^(\w+) : (.*)\n((?:    .*\n?)*)", body, re.MULTILINE)
    return {name: (heading, text) for name, heading, text in entries}


@every_class("parameters")
def test_the_signature_is_the_documents(name):
    facts, parameters = CLASSES[name], inspect.signature(class_of(name)).parameters
    positional = [one for one in parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert [one.name for one in positional] == [fact["name"] for fact in facts["parameters"]]
    assert [one.name for one in parameters.values() if one.kind is one.KEYWORD_ONLY] == facts["beside"]
    for one, fact in zip(positional, facts["parameters"], strict=True):
        default = fact.get("default", one.empty)
        assert (repr(one.default) if isinstance(default, str) else one.default) == default, one.name
        kind = kind_of(fact["type"])
        assert one.annotation == ANNOTATIONS.get(kind, kind), one.name


@each("parameters")
def test_the_docstring_describes_a_parameter_as_the_document_does(name, fact):
    heading, text = section(class_of(name), "Parameters")[fact["name"]]
    default = f", default {fact['default']}" if "default" in fact else ""
    assert heading == kind_of(fact["type"]) + default
    assert says(text, fact["says"]), text


@each("parameters")
def test_a_parameter_has_a_second_spelling_where_the_document_has_camel_case(name, fact):
    cls, given = class_of(name), [fact["name"], fact.get("second", fact["name"])]
    value = {"num_features": 3, "track_running_stats": False}.get(given[1])
    if given[0] != given[1]:
        others = {} if given[1] == "num_features" else {"num_features": 3}
        for spelling in given:
            bn = cls(**others, **{spelling: value})
            assert getattr(bn, given[0]) == getattr(bn, given[1]) == value
        with pytest.raises(TypeError, match="which are one argument"):
            cls(**others, **dict.fromkeys(given, value))
    else:
        assert given[0] == given[0].lower()


@every_class("state")
def test_the_state_dict_has_the_documents_keys_and_first_values(name):
    facts, bn = CLASSES[name], class_of(name)(3)
    assert list(bn.state_dict()) == [fact["name"] for fact in facts["state"]]
    parameters = dict(getattr(bn, "namedParameters", bn.named_parameters)())
    buffers = dict(bn.named_buffers()) if hasattr(bn, "named_buffers") else {}
    for fact in facts["state"]:
        tensor = bn.state_dict()[fact["name"]]
        first = [0, 1, 2] if fact["first"] == "arange" else fact["first"]
        np.testing.assert_array_equal(tensor.numpy(), first, err_msg=fact["name"])
        assert tensor.shape == (() if fact["name"] == "num_batches_tracked" else (3,))
        assert fact["name"] in {"parameter": parameters, "buffer": buffers}[fact["kind"]]
    assert len(parameters) + len(buffers) == len(facts["state"])


@each("counter")
def test_the_counter_has_the_originals_element_type(name, fact):
    dtype, expected = fact
    assert class_of(name)(3, dtype=dtype).num_batches_tracked.dtype.name == expected


@each("none")
def test_what_is_switched_off_is_none(name, fact):
    switch, absent = fact
    on, off = class_of(name)(3), class_of(name)(3, **{switch: False})
    for attribute in absent:
        assert getattr(off, attribute) is None
        assert getattr(on, attribute) is not None
    assert list(off.state_dict()) == [key for key in on.state_dict() if key not in absent]


@each("attributes")
def test_an_attribute_is_there_and_described(name, fact):
    bn = class_of(name)(3)
    getattr(bn, fact["name"])
    if "second" in fact:
        assert getattr(bn, fact["name"]) is getattr(bn, fact["second"])
    if "type" in fact:
        heading, text = section(class_of(name), "Attributes")[fact["name"]]
        assert heading == kind_of(fact["type"])
        assert says(text, fact.get("says", " ")), text
        assert says(text, fact.get("none", " ")), text
        kind = getattr(package_of(name), heading.partition(" ")[0], None) or getattr(
            importlib.import_module(class_of(name).__module__), heading.partition(" ")[0], None
        )
        assert kind is None or isinstance(getattr(bn, fact["name"]), kind)


@every_class("accepts")
def test_the_accepted_numbers_of_dimensions_are_the_documents(name):
    facts = CLASSES[name]
    refusal = (ValueError, RuntimeError, getattr(package_of(name), "TripyException", ValueError))
    for rank in facts["accepts"]:
        x = np.ones((4, 3, 2, 2, 2, 2)[:rank], np.float32)
        assert class_of(name)(3)(x).shape == x.shape
    for rank in facts["refuses"]:
        with pytest.raises(refusal):
            class_of(name)(3)(np.ones((3, 3, 3, 3, 3, 3)[:rank], np.float32))


@every_class("trains")
def test_momentum_averages_as_the_document_says(name):
    for fact in CLASSES[name]["trains"]["averages"]:
        bn = class_of(name)(1, momentum=fact["momentum"])
        for value, expected in zip((2, 6), fact["running mean"], strict=True):
            bn(batch(name, value, value))
            assert bn.running_mean.item() == pytest.approx(expected, rel=1e-6)
    assert int(bn.num_batches_tracked) == 2


@every_class("trains")
def test_the_variance_is_estimated_as_in_the_original(name):
    facts, bn, values = CLASSES[name]["trains"], class_of(name)(1, eps=0.5), (0, 1, 5)
    y = np.ravel(bn(batch(name, *values)))
    freedom = {"biased": 0, "unbiased": 1}
    kept, used = (np.var(values, ddof=freedom[facts[word]]) for word in ("running variance", "normalizes by"))
    assert bn.running_var.item() == pytest.approx(0.9 + 0.1 * kept, rel=1e-6)
    np.testing.assert_allclose(y, (np.array(values) - 2) / np.sqrt(used + 0.5), rtol=1e-5)
    bn.eval()
    y = np.ravel(bn(batch(name, 7, 8)))
    np.testing.assert_allclose(y, ([7, 8] - np.array(0.2)) / np.sqrt(0.9 + 0.1 * kept + 0.5), rtol=1e-5)


@every_class("trains")
def test_without_running_statistics_evaluation_uses_the_batch(name):
    assert CLASSES[name]["trains"]["untracked evaluation"] == "the batch"
    switch = next(one["name"] for one in CLASSES[name]["parameters"] if one["name"].lower().startswith("track"))
    bn = class_of(name)(1, **{switch: False})
    bn.eval()
    np.testing.assert_allclose(np.ravel(bn(batch(name, 4, 6))), [-1, 1], rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, facts in CLASSES.items() if not facts["trains"]])
def test_what_does_not_train_uses_the_precomputed_statistics(name):
    bn = class_of(name)(1, package_of(name).float64, 0.25)
    for key, value in {"weight": 3, "bias": 5, "running_mean": 2, "running_var": 3.75}.items():
        setattr(bn, key, type(getattr(bn, key))([value], "float64"))
    x = batch(name, 2, 4, 10).astype(np.float64)
    for _ in range(2):
        np.testing.assert_allclose(np.ravel(bn(x)), [5, 8, 17])


@every_class("loading")
def test_loading_copies_or_replaces_and_is_as_strict_as_the_original(name):
    facts, cls, package = CLASSES[name]["loading"], class_of(name), package_of(name)
    bn, load = cls(3), facts["method"]
    before = {key: getattr(bn, key) for key in bn.state_dict()}
    given = {key: type(one)(one.numpy() + 1) for key, one in before.items()}
    results = [getattr(bn, load)(given)]
    for key, tensor in bn.state_dict().items():
        assert getattr(bn, key) is {"copied": before, "the given tensors": given}[facts["values"]][key]
        np.testing.assert_array_equal(tensor.numpy(), given[key].numpy())
    partial = {"unknown": given["bias"], **{key: one for key, one in given.items() if key != "weight"}}
    if facts["strict"] == "never":
        results.append(getattr(bn, load)(partial))
    else:
        strict = inspect.signature(getattr(bn, load)).parameters["strict"]
        assert strict.default is facts["strict"]
        with pytest.raises(eval(facts["raises"], {"p": package})) as error:
            getattr(bn, load)(partial)
        assert "weight" in str(error.value)
        assert "unknown" in str(error.value)
        results.append(getattr(bn, load)(partial, strict=False))
    expected = {
        "nothing": [None, None],
        "lists": [([], []), (["weight"], ["unknown"])],
        "sets": [(set(), set()), ({"weight"}, {"unknown"})],
    }
    assert results == expected[facts["returns"]]


@every_class("supertypes")
def test_the_supertypes_are_the_documents(name):
    assert set(CLASSES[name]["supertypes"]) <= {one.__name__ for one in class_of(name).__mro__}
    assert callable(class_of(name)(3))


@every_class("repr")
def test_it_prints_as_the_original(name):
    assert repr(class_of(name)(3)) == CLASSES[name]["repr"]


@each("methods")
def test_a_method_of_the_page_does_what_it_says(name, fact, tmp_path):
    method, holds = fact[0].partition("(")[0], fact[1]
    m, package = class_of(name)(3), package_of(name)
    twin = re.sub("([A-Z])", r"_\1", method).lower() if name.startswith("storch") else method
    for spelling in {method, twin}:
        assert inspect.getattr_static(m, spelling).__doc__
    shape = (4, 3, 2, 2)[: min(CLASSES[name]["accepts"])]
    x = package.ones(shape) if name.startswith(("storch", "tripy", "nvtripy")) else package.ones(*shape)
    names = {"m": m, "x": x, "p": package, "C": type(m), "path": tmp_path / "state.npz"}
    assert eval(holds if isinstance(holds, str) else holds["holds"], names)


@each("errors")
def test_an_error_says_what_the_original_says(name, fact):
    package = package_of(name)
    names = {"C": class_of(name), "m": class_of(name)(3), "p": package, "x": package.ones(3)}
    with pytest.raises(eval(fact["raises"], {"p": package})) as error:
        eval(fact["call"], names)
    assert fact["says"] in str(error.value)


@each("sentences")
def test_the_docstring_has_a_sentence_of_the_document(name, fact):
    assert says(class_of(name).__doc__, fact)


@pytest.mark.parametrize("name", CLASSES)
def test_the_docstring_has_no_word_of_the_operators_for_a_parameter(name):
    assert "Shape (features)" not in class_of(name).__doc__


@pytest.mark.parametrize(("name", "note"), [
    ("lucid.nn.BatchNorm2d", "integer input. In lucid: Is converted to float32. Here: Is refused."),
    ("torch.nn.BatchNorm2d", "empty batch. In PyTorch: Is counted by num_batches_tracked"),
])  # fmt: skip
def test_a_note_says_whose_behaviour_it_is(name, note):
    assert says(class_of(name).__doc__, note)


def test_what_is_told_of_batch_norm_alone_is_not_told_of_linear():
    p = package_of("nvtripy.BatchNorm")
    assert p.Linear(2, 2)(p.ones((2,))).shape == (2,)
    assert says(p.BatchNorm.__doc__, "Refused at the call, with the class and the shape.")
    assert not says(p.Linear.__doc__, "Refused at the call, with the class and the shape.")


@each("method sentences")
def test_the_docstring_of_a_method_has_the_sentences_of_the_document(name, fact):
    doc = getattr(class_of(name), fact[0]).__doc__
    for sentence in fact[1]:
        assert says(doc, sentence), sentence


@each("examples")
def test_an_example_prints_what_the_document_shows(name, fact):
    package = package_of(name)
    names = {"tp": package, "lucid": package, "torch": package, "nn": getattr(package, "nn", None)}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec("\n".join(fact["run"]), names)
    assert printed.getvalue().splitlines() == [corrected(line) for line in fact["prints"]]


def test_every_correction_corrects_something():
    facts = json.dumps(RECORDED["classes"], ensure_ascii=False)
    docs = plain(" ".join(class_of(name).__doc__ for name in CLASSES))
    for one in RECORDED["corrections"]:
        assert one["document"] in facts, one
        assert one["here"] in docs, one
