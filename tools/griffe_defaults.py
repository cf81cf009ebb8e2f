"""For the reference pages: defaults of parameters as the signature has them.

Griffe reads them from the docstring: of ``dt, tau : float`` both get the first one's default, and of
``{"a", "b"}`` the first choice is the default. This extension corrects both. In mkdocs.yml it comes after
griffe's own for dataclasses, which makes their signatures.
"""

from __future__ import annotations

from typing import Any

from griffe import Class, DocstringSectionKind, Expr, ExprCall, ExprKeyword, Extension, Function, Module


class SignatureDefaults(Extension):
    """Corrects every Parameters section once a package is loaded."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Walk the package."""
        self._walk(pkg)

    def _walk(self, parent: Module | Class) -> None:
        for member in parent.members.values():
            if member.is_alias:
                continue
            if isinstance(member, Function | Class):
                self._correct(member)
            if isinstance(member, Module | Class):
                self._walk(member)

    def _correct(self, thing: Function | Class) -> None:
        if thing.docstring is None:
            return
        for p in thing.parameters:
            p.default = _plain(p.default)
        defaults = {p.name.lstrip("*"): p.default for p in thing.parameters}
        for section in thing.docstring.parsed:
            if section.kind is DocstringSectionKind.parameters:
                for parameter in section.value:
                    parameter.value = defaults.get(parameter.name.lstrip("*"))


def _plain(default: str | Expr | None) -> str | Expr | None:
    """The default of a dataclass field, where ``parameter(...)`` or ``field(...)`` has it."""
    if isinstance(default, ExprCall) and str(default.function) in ("field", "parameter"):
        named = {a.name: a.value for a in default.arguments if isinstance(a, ExprKeyword)}
        return named.get("default", named.get("default_factory"))
    return default
