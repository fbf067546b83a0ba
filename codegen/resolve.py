"""From what a person wrote to what a template reads: operator + dialect + variant -> model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .checks import (
    check_counted,
    check_exceptions,
    check_exported,
    check_members,
    check_message,
    check_modules,
    check_name,
    check_operator,
    check_printing,
    check_repr,
    check_shadows,
    check_shared,
    check_traits,
    check_type,
    check_variant,
    named_after,
    placeholders,
)
from .model import Argument, Binding, Callable_, Class, Condition, Deviation, Dialect, Example, Kept, Trait, literal
from .reader import Reader
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
from .vocabulary import CLAUSES, DTYPES, OWN_NAMES, default_fits, snake


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
        named_after(reader, path.stem, operator.operator, operator.where)
        check_operator(reader, operator)
        known[operator.operator] = operator
    check_shared(reader, known)
    resolved = []
    for path, dialect in dialects.items():
        assert dialect is not None
        named_after(reader, path.parent.name, dialect.dialect, dialect.where)
        own = []
        for other, variant in variants.items():
            if other.parent == path.parent:
                assert variant is not None
                named_after(reader, other.stem, variant.variant, variant.where)
                own.append(variant)
        resolved.append(_Resolver(reader, known, dialect).dialect(own))
    for path, variant in variants.items():
        if path.parent / "dialect.yaml" not in dialects and variant is not None:
            reader.complain(variant.where, f"there is no {path.parent.name}/dialect.yaml beside it")
    reader.finish()
    return tuple(resolved)


@dataclass
class _Resolver:
    """Resolves one dialect, complaining to ``reader`` of what does not fit."""

    reader: Reader
    operators: Mapping[str, OperatorSpec]
    spec: DialectSpec

    def dialect(self, variants: Iterable[VariantSpec]) -> Dialect:
        spec = self.spec
        check_exceptions(self.reader, spec)
        conditions = self.conditions
        traits = tuple(
            Trait(
                name, trait.extends, trait.doc, tuple(self._callable(one, each) for one, each in trait.methods.items())
            )
            for name, trait in spec.traits.items()
        )
        check_traits(self.reader, spec)
        check_printing(self.reader, spec)
        methods = tuple(self._callable(name, one) for name, one in spec.methods.items())
        check_exported(self.reader, spec)
        functions = tuple(self._callable(name, one) for name, one in spec.functions.items())
        classes = tuple(self._class(one, conditions, methods, traits) for one in variants)
        check_modules(self.reader, [spec, *variants, *spec.functions.values()])
        exported = [*(one.name for one in functions), *spec.dtypes, *spec.exceptions, *spec.traits]
        check_shadows(self.reader, [*exported, *OWN_NAMES], spec.where)
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
        operator, spelled = self._operator(variant)
        arguments = self._arguments(operator.parameters, spelled.parameters)
        bindings = self._bindings(operator.parameters, spelled.parameters, spelled.fixed, spelled.where)
        state = self._state(operator, spelled)
        check_counted(self.reader, self.spec, operator, spelled)
        check_variant(self.reader, self.spec, variant)
        check_repr(self.reader, variant, [one.name for one in arguments])
        attributes: list[Argument | Kept] = [*(one for one in arguments if one.attribute), *state]
        own = [*methods, *(method for trait in traits for method in trait.methods)]
        named: list[Argument | Kept | Callable_] = [*attributes, *own]
        names = [name for one in named for name in (one.name, one.twin) if name]
        check_members(self.reader, names, spelled.where)
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
            equation=self._equation(operator, [*arguments, *state]),
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

    def _operator(self, variant: VariantSpec) -> tuple[OperatorSpec, SpelledSpec]:
        """What a class computes, and how the dialect spells it; both empty if one is missing."""
        operator, spelled = self.operators.get(variant.operator), self.spec.operators.get(variant.operator)
        if operator is not None and spelled is not None:
            return operator, spelled
        known = self.operators if operator is None else self.spec.operators
        owner = "there is" if operator is None else f"{self.spec.dialect} spells"
        self.reader.complain(variant.where, f"{owner} no operator {variant.operator!r}", variant.operator, known)
        return OperatorSpec("", "", ""), SpelledSpec({}, {}, {})

    def _equation(self, operator: OperatorSpec, named: Iterable[Argument | Kept]) -> str:
        """The operator's equation in the dialect's words, where it has some."""
        equation = operator.equation or ""
        canonical = {one: one for one in placeholders(equation, self.reader, operator.where)}
        return equation.format_map(canonical | {one.canonical: one.name for one in named})

    def _state(self, operator: OperatorSpec, spelled: SpelledSpec) -> tuple[Kept, ...]:
        state = []
        spoken = {one.binds: name for name, one in spelled.parameters.items()}
        for name, kept in spelled.state.items():
            check_name(self.reader, name, kept.where)
            meaning = operator.state.get(kept.keeps)
            if meaning is None:
                self.reader.complain(
                    kept.where, f"{name!r} keeps {kept.keeps!r}, which is no state", kept.keeps, operator.state
                )
                continue
            when = tuple(one for one in meaning.when if one in spoken)
            type_ = kept.type or ("Tensor | None" if when else "Tensor")
            if not check_type(self.reader, name, type_, kept.where):
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
                self.reader.complain(spelled.where, f"the state {canonical!r} has no name")
        return tuple(state)

    def _callable(self, name: str, spec: CallableSpec) -> Callable_:
        check_name(self.reader, name, spec.where)
        operator, _, function = spec.does.rpartition(".")
        functions = self.operators[operator].functions if operator in self.operators else {}
        meaning = functions.get(function)
        if meaning is None:
            known = [f"{one}.{each}" for one, other in self.operators.items() for each in other.functions]
            self.reader.complain(spec.where, f"{name!r} does {spec.does!r}, which is no function", spec.does, known)
            meaning = FunctionSpec("", "None")
        parameters = meaning.parameters
        returns = spec.returns or meaning.returns
        check_type(self.reader, name, returns, spec.where)
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
            check_name(self.reader, name, spec.where)
            meaning = canonical.get(spec.binds)
            if meaning is None:
                continue  # _bindings complains of it
            type_ = spec.type or meaning.type
            if not check_type(self.reader, name, type_, spec.where):
                continue
            required = isinstance(spec.default, Required)
            if not required and not default_fits(spec.default, type_):
                self.reader.complain(spec.where, f"the default of {name!r} is {spec.default!r}, which is not {type_}")
            if required and optional and not spec.keyword:
                self.reader.complain(spec.where, f"{name!r} has no default, but {optional!r} before it has one")
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
                self.reader.complain(where, f"fixes {name!r}, which is no parameter", name, canonical)
            elif not default_fits(value, canonical[name].type):
                self.reader.complain(where, f"fixes {name!r} to {value!r}, which is not {canonical[name].type}")
        for name, argument in spoken.items():
            one = argument.binds
            if one not in canonical:
                self.reader.complain(argument.where, f"{name!r} binds {one!r}, which is no parameter", one, canonical)
            elif one in bound:
                self.reader.complain(argument.where, f"{name!r} binds {one!r}, which is bound or fixed already")
            else:
                bound[one] = Binding(one, name)
        for name in canonical:
            if name not in bound:
                self.reader.complain(where, f"the parameter {name!r} is neither bound nor fixed")
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
                self.reader.complain(message.where, f"there is no condition {name!r}", name, known)
                continue
            check_message(self.reader, self.spec, name, message, known[name].fields)
        for name in self._arising:
            if name not in messages:
                self.reader.complain(self.spec.where, f"the condition {name!r} has no message")
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
                self.reader.complain(one.where, f"there is no clause {one.clause!r}", one.clause, CLAUSES)
            known = self.spec.operators
            if one.operator is not None and one.operator not in known:
                problem = f"{self.spec.dialect} spells no operator {one.operator!r}"
                self.reader.complain(one.where, problem, one.operator, known)
        return tuple(
            Deviation(one.about, one.clause, one.original, one.here, one.document, one.prints, one.operator)
            for one in deviations
        )

    def _twin(self, name: str) -> str | None:
        return snake(name) if self.spec.twins and name != name.lower() and not name[0].isupper() else None


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip())


def _source(value: Default, type_: str) -> str:
    """A default as source text; a dtype stands under its own name."""
    return str(value) if value in DTYPES and "dtype" in type_.lower() else literal(value)
