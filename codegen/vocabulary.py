"""The words that a spec may use for types, and what each is in a generated annotation."""

from __future__ import annotations

import ast
import keyword
import math
from collections.abc import Iterator

# word of a spec -> (annotation, the module it is imported from, where it needs an import)
TYPES: dict[str, tuple[str, str]] = {
    "int": ("int", ""),
    "float": ("float", ""),
    "bool": ("bool", ""),
    "str": ("str", ""),
    "object": ("object", ""),
    "None": ("None", ""),
    "dict": ("dict", ""),
    "list": ("list", ""),
    "tuple": ("tuple", ""),
    "set": ("set", ""),
    "Any": ("Any", "typing"),
    "Self": ("Self", "typing_extensions"),
    "Callable": ("Callable", "collections.abc"),
    "Iterator": ("Iterator", "collections.abc"),
    "Mapping": ("Mapping", "collections.abc"),
    "Sequence": ("Sequence", "collections.abc"),
    "PathLike": ("PathLike[str] | str", "os"),
    "Array": ("Array", "normspec.runtime"),
    "ArrayT": ("ArrayT", "normspec.runtime"),
    "ModuleT": ("ModuleT", "normspec.runtime"),
    "StateDict": ("StateDict", "normspec.runtime"),
    "IncompatibleKeys": ("IncompatibleKeys", "normspec.runtime"),
    "Shape": ("Shape", "normspec.runtime"),
    "dtype": ("DTypeLike", "normspec.runtime"),
    "DTypeLike": ("DTypeLike", "normspec.runtime"),
    "device": ("str", ""),
    "DeviceLike": ("str", ""),
    "no_grad": ("NoGrad", "normspec.runtime"),
    "Tensor": ("Tensor", "DIALECT._dialect"),
    "Parameter": ("Parameter", "DIALECT._dialect"),
    "Module": ("Module", "DIALECT._module"),
}

# Names that the runtime's modules have, beside those with an underscore: a dialect cannot give them to anything else.
MODULE_NAMES = ("compute", "extra_repr", "forward", "training")
# Names that every generated package has.
OWN_NAMES = (
    *("DIALECT", "Dialect", "Message", "Module", "Parameter", "Printing", "Rules", "Tensor", "TensorPrinting"),
    *("dtype", "runtime"),
)
FRAME_FIELDS = ("data", "dtype", "device", "shape", "size", "extras")
_TYPE_NODES = (
    *(ast.Expression, ast.Name, ast.Load, ast.Constant, ast.List),
    *(ast.BinOp, ast.BitOr, ast.Subscript, ast.Tuple),
)
DTYPES = ("float16", "bfloat16", "float32", "float64", "int32", "int64", "bool")
NAMED_DTYPES = (*DTYPES, "int8", "int16", "uint8")  # those that a text may stand for


def words(type_: str) -> Iterator[str]:
    """The words in a type such as ``Mapping[str, Tensor] | None``; SyntaxError if it is nothing of the kind."""
    for node in ast.walk(ast.parse(type_, mode="eval")):
        if not isinstance(node, _TYPE_NODES) or (isinstance(node, ast.Constant) and node.value is not None):
            raise SyntaxError(f"{type(node).__name__} in a type")
        if isinstance(node, ast.Name):
            yield node.id


def annotation(type_: str) -> str:
    """The Python annotation for a type of a spec."""

    class Annotate(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return ast.parse(TYPES[node.id][0], mode="eval").body

    return ast.unparse(Annotate().visit(ast.parse(type_, mode="eval")))


def resolved(annotation: str) -> str:
    """The annotation of what is kept or returned: an element type, where its name could be given as well."""
    return annotation.replace("DTypeLike", "DType")


def legal(name: str) -> bool:
    """Whether a name can be a Python identifier without being a keyword."""
    return name.isidentifier() and name.isascii() and not keyword.iskeyword(name)


def snake(name: str) -> str:
    """``numFeatures`` as ``num_features``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def default_fits(value: object, type_: str) -> bool:
    """Whether a default is of a type; a dtype is given by its name."""
    return any(_fits(value, member.strip()) for member in type_.split("|"))


def _fits(value: object, word: str) -> bool:
    if word == "None":
        return value is None
    if word in ("dtype", "DTypeLike"):
        return value in DTYPES
    if word in ("device", "DeviceLike"):
        return value in ("cpu", "cuda")
    return type(value).__name__ == word and (not isinstance(value, float) or math.isfinite(value))


# What conformance is checked of, one column of the matrix each; a deviation names the one that it is about.
CLAUSES = (
    *("signature", "attributes", "supertypes", "docstring", "state_dict", "load_state_dict", "output", "statistics"),
    *("gradients", "dtypes", "devices", "errors", "methods", "functions", "printing", "examples"),
)
