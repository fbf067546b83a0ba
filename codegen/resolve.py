"""From what a person wrote to what a template reads: operator + dialect + variant -> model."""

from __future__ import annotations

import builtins
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .model import Argument, Binding, Callable_, Class, Condition, Deviation, Dialect, Example, Kept, Trait, literal
from .reader import Reader, hint
from .schema import (
    ArgumentSpec,
    CallableSpec,
    ConditionSpec,
    Default,
    DeviationSpec,
    DialectSpec,
    ExampleSpec,
    FunctionSpec,
    OperatorSpec,
    ParameterSpec,
    Required,
    SpelledSpec,
    VariantSpec,
)
from .vocabulary import (
    CLAUSES,
    DTYPES,
    FRAME_FIELDS,
    MODULE_NAMES,
    NAMED_DTYPES,
    OWN_NAMES,
    TYPES,
    default_fits,
    legal,
    snake,
    words,
)

_RESERVED = {"self", "cls"}
_PUBLIC = {"Tensor", "Parameter", "Module", "dtype"}


def load(specs: Path) -> tuple[Dialect, ...]:
    """Read and resolve every spec under ``specs``; one SpecError lists everything that is wrong."""
    reader = Reader(specs)
    operators = {path: reader.read(path, OperatorSpec) for path in sorted(specs.glob("operators/*.yaml"))}
    dialects = {path: reader.read(path, DialectSpec) for path in sorted(specs.glob("*/dialect.yaml"))}
    variants = {
        path: reader.read(path, VariantSpec)
        for path in sorted(specs.glob("*/*.yaml"))
        if path.parent.name != "operators" and path.name != "dialect.yaml"
    }
    if not dialects:
        reader.complain(f"{specs.name}:1", "there is no dialect here: no folder with a dialect.yaml")
    if specs / "operators" / "module.yaml" not in operators:
        reader.complain(f"{specs.name}:1", "there is no operators/module.yaml, which says what a module is")
    reader.finish()  # what follows may rely on every spec having its shape
    known = {}
    for path, operator in operators.items():
        assert operator is not None
        _named_after(reader, path.stem, operator.operator, operator.where)
        _check_operator(reader, operator)
        known[operator.operator] = operator
    _check_shared(reader, known)
    resolved = []
    for path, dialect in dialects.items():
        assert dialect is not None
        _named_after(reader, path.parent.name, dialect.dialect, dialect.where)
        own = []
        for other, variant in variants.items():
            if other.parent == path.parent:
                assert variant is not None
                _named_after(reader, other.stem, variant.variant, variant.where)
                own.append(variant)
        resolved.append(_Resolver(reader, known, dialect).dialect(own))
    for path, variant in variants.items():
        if path.parent / "dialect.yaml" not in dialects and variant is not None:
            reader.complain(variant.where, f"there is no {path.parent.name}/dialect.yaml beside it")
    reader.finish()
    return tuple(resolved)


def _named_after(reader: Reader, file: str, name: str, where: str) -> None:
    if file != name:
        reader.complain(where, f"{name!r} is in a file or folder named {file!r}")
    if not legal(name):
        reader.complain(where, f"{name!r} is no Python identifier")


def _check_name(reader: Reader, name: str, where: str) -> None:
    if not legal(name) or name in _RESERVED or name.startswith("__"):
        reader.complain(where, f"{name!r} cannot be a name in Python")


def _check_parameters(reader: Reader, parameters: Mapping[str, ParameterSpec]) -> None:
    for name, parameter in parameters.items():
        _check_name(reader, name, parameter.where)
        _check_type(reader, name, parameter.type, parameter.where)


def _check_operator(reader: Reader, operator: OperatorSpec) -> None:
    _check_parameters(reader, operator.parameters)
    for called, function in operator.functions.items():
        _check_name(reader, called, function.where)
        _check_parameters(reader, function.parameters)
        for name in function.raises:
            if name not in operator.conditions:
                problem = f"a function raises {name!r}, which is no condition"
                reader.complain(function.where, problem + hint(name, operator.conditions))
    for name, state in operator.state.items():
        _check_name(reader, name, state.where)
        for word in (*state.when, *state.shape):
            if word not in operator.parameters:
                reader.complain(
                    state.where, f"{name!r} names {word!r}, which is no parameter{hint(word, operator.parameters)}"
                )
    for name, condition in operator.conditions.items():
        if condition.of is not None and condition.of not in operator.parameters:
            problem = f"{name!r} is of {condition.of!r}, which is no parameter"
            reader.complain(condition.where, problem + hint(condition.of, operator.parameters))
        if (condition.of is None) != (condition.needs is None):
            reader.complain(condition.where, f"{name!r} needs both 'of' and 'needs', or neither")
    for placeholder in _placeholders(operator.equation or "", reader, operator.where):
        if placeholder not in operator.parameters and placeholder not in operator.state:
            known = [*operator.parameters, *operator.state]
            reader.complain(
                operator.where, f"the equation has {placeholder!r}, which is nothing{hint(placeholder, known)}"
            )


def _check_shared(reader: Reader, operators: Mapping[str, OperatorSpec]) -> None:
    known = {name for operator in operators.values() for name in operator.conditions}
    for operator in operators.values():
        for name in operator.raises:
            if name not in known:
                reader.complain(
                    operator.where, f"{operator.operator} raises {name!r}, which is no condition{hint(name, known)}"
                )


def _check_type(reader: Reader, name: str, type_: str, where: str) -> bool:
    try:
        unknown = [word for word in words(type_) if word not in TYPES]
    except SyntaxError:
        reader.complain(where, f"the type of {name!r} is {type_!r}, which is no type")
        return False
    for word in unknown:
        reader.complain(where, f"the type of {name!r} has {word!r}, which is no type{hint(word, TYPES)}")
    return not unknown


@dataclass
class _Resolver:
    """Resolves one dialect, complaining to ``reader`` of what does not fit."""

    reader: Reader
    operators: Mapping[str, OperatorSpec]
    spec: DialectSpec

    def dialect(self, variants: Iterable[VariantSpec]) -> Dialect:
        spec = self.spec
        self._check_exceptions()
        conditions = self.conditions
        traits = tuple(
            Trait(
                name, trait.extends, trait.doc, tuple(self._callable(one, each) for one, each in trait.methods.items())
            )
            for name, trait in spec.traits.items()
        )
        self._check_traits()
        self._check_printing()
        methods = tuple(self._callable(name, one) for name, one in spec.methods.items())
        for dtype in spec.dtypes:
            if dtype not in DTYPES:
                self._complain(spec.where, f"{dtype!r} is no element type", dtype, DTYPES)
        for name, dtype in spec.aliases.items():
            if dtype not in NAMED_DTYPES:
                self._complain(
                    spec.where, f"{name!r} stands for {dtype!r}, which is no element type", dtype, NAMED_DTYPES
                )
        for name in spec.names:
            if name not in _PUBLIC:
                self._complain(spec.where, f"{name!r} cannot be exported", name, _PUBLIC)
        functions = tuple(self._callable(name, one) for name, one in spec.functions.items())
        classes = tuple(self._class(one, conditions, methods, traits) for one in variants)
        self._check_modules([spec, *variants, *spec.functions.values()])
        exported = [*(one.name for one in functions), *spec.dtypes, *spec.exceptions, *spec.traits]
        self._check_shadows([*exported, *OWN_NAMES], spec.where)
        return Dialect(
            name=spec.dialect,
            title=spec.title,
            reference=spec.reference,
            source=spec.source,
            doc=spec.doc,
            imports=spec.imports,
            module=spec.module,
            twinned=spec.twins,
            rules=spec.rules,
            printing=spec.printing,
            dtypes=spec.dtypes,
            aliases=spec.aliases,
            exceptions=spec.exceptions,
            conditions=conditions,
            methods=methods,
            base=Trait("Module", (), self.operators["module"].doc, methods),
            traits=traits,
            functions=functions,
            names=spec.names,
            classes=classes,
            deviations=self._deviations(spec.deviations),
            method=spec.call.method,
        )

    def _class(
        self,
        variant: VariantSpec,
        conditions: tuple[Condition, ...],
        methods: tuple[Callable_, ...],
        traits: tuple[Trait, ...],
    ) -> Class:
        operator = self.operators.get(variant.operator)
        spelled = self.spec.operators.get(variant.operator)
        if operator is None or spelled is None:
            known = self.operators if operator is None else self.spec.operators
            owner = "there is" if operator is None else f"{self.spec.dialect} spells"
            self._complain(variant.where, f"{owner} no operator {variant.operator!r}", variant.operator, known)
            operator, spelled = OperatorSpec("", "", ""), SpelledSpec({}, {}, {})
        arguments = self._arguments(operator.parameters, spelled.parameters)
        bindings = self._bindings(operator.parameters, spelled.parameters, spelled.fixed, spelled.where)
        state = self._state(operator, spelled)
        self._check_counted(operator, spelled)
        self._check_variant(variant)
        self._check_repr(variant, [one.name for one in arguments])
        attributes: list[Argument | Kept] = [*(one for one in arguments if one.attribute), *state]
        own = [*methods, *(method for trait in traits for method in trait.methods)]
        named: list[Argument | Kept | Callable_] = [*attributes, *own]
        names = [name for one in named for name in (one.name, one.twin) if name]
        self._check_shadows([*MODULE_NAMES, *names], spelled.where)
        for name in names:
            if name.startswith("_"):
                self._complain(spelled.where, f"{name!r} begins with an underscore, as names of the runtime do")
        equation = operator.equation or ""
        placeholders = _placeholders(equation, self.reader, operator.where)
        spoken = {one.canonical: one.name for one in arguments} | {one.canonical: one.name for one in state}
        shared = [one for one in self.spec.deviations if one.operator in (None, variant.operator)]
        return Class(
            name=variant.variant,
            dialect=self.spec.dialect,
            library=self.spec.title,
            operator=variant.operator,
            module=variant.module,
            origin=variant.origin,
            extension=variant.extension,
            summary=variant.summary,
            paragraphs=_paragraphs(variant.text) + _paragraphs(spelled.text),
            equation=equation.format_map({one: one for one in placeholders} | spoken),
            latex=operator.latex or "",
            source=operator.source,
            inputs=variant.input,
            shape=variant.shape,
            output=variant.output,
            arguments=arguments,
            bindings=bindings,
            state=state,
            names={one.canonical: one.name for one in attributes} | {"input": self.spec.call.input},
            repr=variant.repr,
            supertypes=variant.supertypes,
            notes=(*spelled.notes, *variant.notes),
            examples=self._examples(variant.examples),
            deviations=(*self._deviations(shared), *self._deviations(variant.deviations)),
            omits=spelled.omits,
            conditions=tuple(one for one in conditions if one.name in {*operator.conditions, *operator.raises}),
            method=self.spec.call.method,
            input=self.spec.call.input,
            call_doc=spelled.call or self.spec.call.doc,
            call_returns=spelled.returns or self.spec.call.returns,
            imports=self.spec.imports,
            qualified=".".join(part for part in (self.spec.dialect, variant.module, variant.variant) if part),
            meanings={name: one.doc for name, one in (operator.parameters | operator.state).items()},
        )

    def _state(self, operator: OperatorSpec, spelled: SpelledSpec) -> tuple[Kept, ...]:
        state = []
        spoken = {one.binds: name for name, one in spelled.parameters.items()}
        for name, kept in spelled.state.items():
            _check_name(self.reader, name, kept.where)
            meaning = operator.state.get(kept.keeps)
            if meaning is None:
                self._complain(
                    kept.where, f"{name!r} keeps {kept.keeps!r}, which is no state", kept.keeps, operator.state
                )
                continue
            when = tuple(one for one in meaning.when if one in spoken)
            type_ = kept.type or ("Tensor | None" if when else "Tensor")
            if not _check_type(self.reader, name, type_, kept.where):
                continue
            state.append(
                Kept(
                    name=name,
                    canonical=kept.keeps,
                    twin=kept.alias or self._twin(name),
                    shape=meaning.shape,
                    axes=tuple(spoken.get(word, word) for word in meaning.shape),
                    init=kept.init or meaning.init,
                    kind=kept.kind or meaning.kind,
                    when=meaning.when,
                    switches=tuple(spoken[one] for one in when),
                    type=type_,
                    dtype=getattr(self.spec.rules, meaning.dtype) if meaning.dtype else "parameter",
                    doc=kept.doc or meaning.doc,
                )
            )
        for canonical in operator.state:
            if canonical not in {one.canonical for one in state} and not (
                canonical == "count" and self.spec.rules.counter_dtype == "none"
            ):
                self._complain(spelled.where, f"the state {canonical!r} has no name")
        return tuple(state)

    def _check_counted(self, operator: OperatorSpec, spelled: SpelledSpec) -> None:
        """Who averages over all batches must count them."""
        if self.spec.rules.counter_dtype != "none" or "count" not in operator.state:
            return
        for name, kept in spelled.state.items():
            if kept.keeps == "count":
                self._complain(kept.where, f"{name!r} keeps 'count', but counter_dtype is none")
        if spelled.fixed.get("learns") is False:
            return
        needs = "may be None, an average over all batches, but counter_dtype is none: nothing counts them"
        if spelled.fixed.get("update_rate", 0) is None:
            self._complain(spelled.where, f"'update_rate' {needs}")
        for name, spec in spelled.parameters.items():
            meaning = operator.parameters.get(spec.binds)
            if spec.binds == "update_rate" and meaning and "None" in (spec.type or meaning.type):
                self._complain(spec.where, f"{name!r} {needs}")

    def _callable(self, name: str, spec: CallableSpec) -> Callable_:
        _check_name(self.reader, name, spec.where)
        operator, _, function = spec.does.rpartition(".")
        functions = self.operators[operator].functions if operator in self.operators else {}
        meaning = functions.get(function)
        if meaning is None:
            known = [f"{one}.{each}" for one, other in self.operators.items() for each in other.functions]
            self._complain(spec.where, f"{name!r} does {spec.does!r}, which is no function", spec.does, known)
            meaning = FunctionSpec("", "None")
        parameters = meaning.parameters
        returns = spec.returns or meaning.returns
        _check_type(self.reader, name, returns, spec.where)
        return Callable_(
            name=name,
            twin=self._twin(name),
            kind=spec.kind,
            operator=operator,
            function=function,
            arguments=self._arguments(parameters, spec.parameters),
            bindings=self._bindings(parameters, spec.parameters, spec.fixed, spec.where),
            result=spec.result,
            returns=returns,
            gives=spec.gives,
            doc=spec.doc or meaning.doc,
            module=spec.module,
            examples=self._examples(spec.examples),
            conditions=tuple(one for one in self.conditions if one.name in meaning.raises and one.raises),
            speaks=bool(meaning.raises),
        )

    def _arguments(
        self, canonical: Mapping[str, ParameterSpec], spoken: Mapping[str, ArgumentSpec]
    ) -> tuple[Argument, ...]:
        """The signature, in the dialect's order."""
        arguments = []
        optional = ""
        for name, spec in spoken.items():
            _check_name(self.reader, name, spec.where)
            meaning = canonical.get(spec.binds)
            if meaning is None:
                continue  # _bindings complains of it
            type_ = spec.type or meaning.type
            if not _check_type(self.reader, name, type_, spec.where):
                continue
            required = isinstance(spec.default, Required)
            if not required and not default_fits(spec.default, type_):
                self._complain(spec.where, f"the default of {name!r} is {spec.default!r}, which is not {type_}")
            if required and optional and not spec.keyword:
                self._complain(spec.where, f"{name!r} has no default, but {optional!r} before it has one")
            optional = optional if required else name
            arguments.append(
                Argument(
                    name=name,
                    canonical=spec.binds,
                    twin=self._twin(name),
                    type=type_,
                    default=None if isinstance(spec.default, Required) else _source(spec.default, type_),
                    value=None if required else spec.default,
                    keyword=spec.keyword,
                    variadic=spec.variadic,
                    attribute=spec.attribute,
                    constant=spec.constant,
                    doc=spec.doc or meaning.doc,
                    attribute_doc=spec.attribute_doc or spec.doc or meaning.doc,
                )
            )
        return tuple(arguments)

    def _bindings(
        self,
        canonical: Mapping[str, ParameterSpec],
        spoken: Mapping[str, ArgumentSpec],
        fixed: Mapping[str, Default],
        where: str,
    ) -> tuple[Binding, ...]:
        """How each canonical parameter is set: a dialect must account for every one of them, exactly once."""
        bound: dict[str, Binding] = {}
        for name, value in fixed.items():
            bound[name] = Binding(name, None, value)
            if name not in canonical:
                self._complain(where, f"fixes {name!r}, which is no parameter", name, canonical)
            elif not default_fits(value, canonical[name].type):
                self._complain(where, f"fixes {name!r} to {value!r}, which is not {canonical[name].type}")
        for name, argument in spoken.items():
            one = argument.binds
            if one not in canonical:
                self._complain(argument.where, f"{name!r} binds {one!r}, which is no parameter", one, canonical)
            elif one in bound:
                self._complain(argument.where, f"{name!r} binds {one!r}, which is bound or fixed already")
            else:
                bound[one] = Binding(one, name)
        for name in canonical:
            if name not in bound:
                self._complain(where, f"the parameter {name!r} is neither bound nor fixed")
        return tuple(bound[name] for name in canonical if name in bound)

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """What the dialect says of every condition: it must account for each, in words or by saying why it never is."""
        known: dict[str, ConditionSpec] = {}
        for operator in self.operators.values():
            known |= operator.conditions
        messages = self.spec.messages
        for name, message in messages.items():
            if name not in known:
                self._complain(message.where, f"there is no condition {name!r}", name, known)
                continue
            if (message.text is None) == (message.never is None) or (message.text is None) != (message.raises is None):
                self._complain(message.where, f"{name!r} needs either 'raises' and 'text' or 'never'")
            self._check_exception(message.raises, message.where, self.spec.exceptions)
            for placeholder in _placeholders(message.text or "", self.reader, message.where):
                if placeholder not in known[name].fields:
                    fields = known[name].fields
                    self._complain(message.where, f"{name!r} has no field {placeholder!r}", placeholder, fields)
        for name in self._arising:
            if name not in messages:
                self._complain(self.spec.where, f"the condition {name!r} has no message")
        return tuple(
            Condition(
                name=name,
                phase=known[name].phase,
                doc=known[name].doc,
                fields=known[name].fields,
                of=known[name].of,
                needs=known[name].needs,
                raises=message.raises,
                text=message.text,
                never=message.never,
            )
            for name, message in messages.items()
            if name in known
        )

    @property
    def _arising(self) -> list[str]:
        """The conditions of what the dialect spells or calls."""
        spec = self.spec
        called = [*spec.methods.values(), *spec.functions.values()]
        called += [one for trait in spec.traits.values() for one in trait.methods.values()]
        named = {"module", *spec.operators, *(one.does.rpartition(".")[0] for one in called)}
        return [name for key, operator in self.operators.items() if key in named for name in operator.conditions]

    def _check_exceptions(self) -> None:
        earlier: list[str] = []
        for name, base in self.spec.exceptions.items():
            _check_name(self.reader, name, self.spec.where)
            self._check_exception(base, self.spec.where, earlier)
            earlier.append(name)

    def _check_exception(self, name: str | None, where: str, known: Collection[str]) -> None:
        builtin = getattr(builtins, name, None) if name else Exception
        if name not in known and not (isinstance(builtin, type) and issubclass(builtin, Exception)):
            self._complain(where, f"{name!r} is no exception", name or "", known)

    def _check_traits(self) -> None:
        earlier = ["Module"]
        for name, trait in self.spec.traits.items():
            _check_name(self.reader, name, trait.where)
            if not trait.extends:
                self._complain(trait.where, f"{name!r} extends nothing")
            for other in trait.extends:
                if other not in earlier:
                    self._complain(trait.where, f"{name!r} extends {other!r}, which is no trait", other, earlier)
            earlier.append(name)

    def _check_printing(self) -> None:
        printing, where = self.spec.printing, self.spec.where
        texts: list[tuple[str, Sequence[str]]] = [(printing.dtype, ["name"]), (printing.tensor.parameter, ["tensor"])]
        texts += [(frame, FRAME_FIELDS) for frame in (printing.tensor.frame, printing.tensor.nested)]
        texts += [(device, ["index"]) for device in printing.devices.values()]
        for text, fields in texts:
            for placeholder in _placeholders(text, self.reader, where):
                if placeholder not in fields:
                    self._complain(where, f"{text!r} has no field {placeholder!r}", placeholder, fields)
        for kind in printing.devices.keys() ^ {"cpu", "cuda"}:
            self._complain(where, f"the devices must be cpu and cuda; {kind!r} is missing or not one")

    def _check_modules(self, placed: Iterable[DialectSpec | VariantSpec | CallableSpec]) -> None:
        for one in placed:
            if one.module and not all(legal(part) for part in one.module.split(".")):
                self._complain(one.where, f"{one.module!r} cannot be a module in Python")

    def _check_variant(self, variant: VariantSpec) -> None:
        if not variant.supertypes:
            self._complain(variant.where, "there must be a supertype, Module at least")
        for shape in variant.input:
            axes = shape.split()
            if len(axes) < 2 or not all(axis == "..." or legal(axis) for axis in axes):
                self._complain(variant.where, f"{shape!r} is no shape: at least two words, such as N C or N C ...")
        for supertype in variant.supertypes:
            if supertype != "Module" and supertype not in self.spec.traits:
                self._complain(variant.where, f"{supertype!r} is no supertype", supertype, self.spec.traits)

    def _check_repr(self, variant: VariantSpec, names: list[str]) -> None:
        if not (variant.repr.startswith(f"{variant.variant}(") and variant.repr.endswith(")")):
            self._complain(variant.where, f"the repr must read {variant.variant}(...)")
        if any(letter in variant.repr for letter in "\"'\\\n") or "{{" in variant.repr or "}}" in variant.repr:
            self._complain(variant.where, "the repr must have no quotes, backslashes, line ends or doubled braces")
        for placeholder in _placeholders(variant.repr, self.reader, variant.where):
            if placeholder not in names:
                self._complain(
                    variant.where, f"the repr has {placeholder!r}, which is no parameter", placeholder, names
                )

    def _check_shadows(self, names: Iterable[str], where: str) -> None:
        seen: set[str] = set()
        for name in names:
            if name in seen:
                self._complain(where, f"{name!r} shadows another {name!r}")
            seen.add(name)

    def _examples(self, examples: Iterable[ExampleSpec]) -> tuple[Example, ...]:
        """Examples, with what the document prints respelled where we knowingly print otherwise."""
        resolved = []
        for one in examples:
            code = one.code
            for deviation in self.spec.deviations:
                if deviation.document and deviation.prints:
                    code = code.replace(deviation.document, deviation.prints)
            resolved.append(Example(code, one.title, one.origin))
        return tuple(resolved)

    def _deviations(self, deviations: Iterable[DeviationSpec]) -> tuple[Deviation, ...]:
        for one in deviations:
            if one.clause not in CLAUSES:
                self._complain(one.where, f"there is no clause {one.clause!r}", one.clause, CLAUSES)
            known = self.spec.operators
            if one.operator is not None and one.operator not in known:
                problem = f"{self.spec.dialect} spells no operator {one.operator!r}"
                self._complain(one.where, problem, one.operator, known)
        return tuple(
            Deviation(one.about, one.clause, one.original, one.here, one.document, one.prints, one.operator)
            for one in deviations
        )

    def _twin(self, name: str) -> str | None:
        return snake(name) if self.spec.twins and name != name.lower() and not name[0].isupper() else None

    def _complain(self, where: str, problem: str, word: str = "", choices: Iterable[str] = ()) -> None:
        self.reader.complain(where, problem + hint(word, choices))


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip())


def _placeholders(text: str, reader: Reader, where: str) -> list[str]:
    """The names in braces; a format or an attribute of one is refused."""
    try:
        fields = [field[1:] for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        reader.complain(where, f"{text!r} has unbalanced braces: {error}")
        return []
    for name, form, conversion in fields:
        if form or conversion or not str(name).isidentifier():
            reader.complain(where, f"{text!r} may have plain {{names}} only")
    return [name for name, _, _ in fields if name and name.isidentifier()]


def _source(value: Default, type_: str) -> str:
    """A default as source text; a dtype stands under its own name."""
    return str(value) if value in DTYPES and "dtype" in type_.lower() else literal(value)
