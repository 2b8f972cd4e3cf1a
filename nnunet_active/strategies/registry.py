"""Find strategies by name: the modules of this package, entry points of other packages, or a Python file.

A strategy is any class with a ``name`` that derives from :class:`~nnunet_active.strategies.base.QueryStrategy`; a file
in this package needs nothing else. Other packages announce theirs in the entry-point group
``nnunet_active.strategies`` (entry point's name: the strategy's name), and ``path/to/file.py:ClassName`` works wherever
a name does.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from nnunet_active.strategies.base import QueryStrategy
from nnunet_active.util.errors import ActiveError, MissingInput
from nnunet_active.util.state_file import conforms
from nnunet_active.util.strategy_files import names_a_file, split_name

_PLAIN = {int, float, str, bool, type(None)}

ENTRY_POINT_GROUP = "nnunet_active.strategies"


def get_strategy(name: str, **options: Any) -> QueryStrategy:
    """Make the strategy ``name`` with these options.

    Args:
        name: a registered name, or ``path/to/file.py:ClassName``.
        options: keyword arguments of the strategy's ``__init__``.

    Raises:
        ActiveError: unknown name (the message lists the names), unknown option, or the class is not in the file.
    """
    strategy_class = strategy_from_file(name) if names_a_file(name) else _find(name)
    known = [p.name for p in inspect.signature(strategy_class).parameters.values() if p.kind != p.VAR_KEYWORD]
    if unknown := sorted(set(options) - set(known)):
        raise ActiveError(
            f"The strategy '{name}' has no option {', '.join(unknown)}; its options are: {', '.join(known) or 'none'}."
        )
    if problem := _wrong_type(strategy_class, options):
        raise ActiveError(f"The strategy '{name}' cannot be used with the option {problem}.")
    with failing_as(name):
        return strategy_class(**options)


@contextmanager
def failing_as(name: str) -> Iterator[None]:
    """Turn whatever a strategy's code raises, also ``sys.exit``, into an error of that strategy; an ActiveError passes unchanged."""
    try:
        yield
    except ActiveError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "an unknown place"
        said = f"{type(error).__name__}: {error}"
        raise ActiveError(f"The strategy '{name}' fails: {said} ({place}); correct it, or choose another.") from error


def _wrong_type(strategy_class: type[QueryStrategy], options: dict[str, Any]) -> str:
    """What is wrong with the first option that does not match its type hint in the strategy's ``__init__``; empty if none."""
    try:
        hints = get_type_hints(strategy_class.__init__)
    except (NameError, TypeError):  # somebody else's strategy may name a type that cannot be found
        return ""
    for name, value in options.items():
        kinds = get_args(hints.get(name)) or (hints.get(name),)
        if set(kinds) <= _PLAIN and (reason := conforms(value, hints[name])):
            return f"{name}: {reason}"
    return ""


def available_strategies() -> dict[str, type[QueryStrategy]]:
    """All strategies by name, sorted: this package's and those of entry points.

    An entry point that fails to load is left out with a warning; this package's own names always win.
    """
    found = dict(_own_strategies())
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        if entry_point.name in found:
            if entry_point.value.split(":")[0] != found[entry_point.name].__module__:
                warnings.warn(
                    f"The strategy '{entry_point.name}' of {entry_point.value} is already taken.", stacklevel=2
                )
            continue
        try:
            found[entry_point.name] = _checked(entry_point.load(), entry_point.value)
        except Exception as error:  # a fault in another package must not disable every other strategy
            warnings.warn(f"The strategy '{entry_point.name}' cannot be loaded: {error}", stacklevel=2)
    return dict(sorted(found.items()))


def strategy_from_file(specification: str) -> type[QueryStrategy]:
    """The class that ``path/to/file.py:ClassName`` names; the class name is optional if the file has just one.

    Raises:
        MissingInput: no such file.
        ActiveError: the file fails when it runs, or the class is not in it.
    """
    file_name, class_name = split_name(specification)
    path = Path(file_name).expanduser().resolve()
    if not path.is_file():
        raise MissingInput(f"There is no strategy file {path}.")
    module = _load_file(path)
    classes = {cls.__name__: cls for cls in _strategy_classes(module)}
    if not class_name and len(classes) == 1:
        return _checked(next(iter(classes.values())), specification)
    if class_name not in classes:
        held = ", ".join(classes) or "none"
        raise ActiveError(f"{path} has no query strategy '{class_name}'; strategies in it: {held}.")
    return _checked(classes[class_name], specification)


def _find(name: str) -> type[QueryStrategy]:
    if name in (own := _own_strategies()):
        return own[name]
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            return _checked(entry_point.load(), entry_point.value)
        except ActiveError:
            raise
        except Exception as error:
            raise ActiveError(f"The strategy '{name}' ({entry_point.value}) cannot be loaded: {error}") from error
    raise ActiveError(
        f"There is no strategy '{name}'; choose one of {', '.join(available_strategies())}, "
        "or give path/to/file.py:ClassName."
    )


@lru_cache(maxsize=1)
def _own_strategies() -> dict[str, type[QueryStrategy]]:
    package = importlib.import_module(__package__)
    found: dict[str, type[QueryStrategy]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        for cls in _strategy_classes(importlib.import_module(f"{__package__}.{info.name}")):
            if cls.name in found:
                raise ActiveError(f"Two strategies are called '{cls.name}': {found[cls.name]} and {cls}.")
            found[cls.name] = cls
    return dict(sorted(found.items()))


def _strategy_classes(module: ModuleType) -> Iterator[type[QueryStrategy]]:
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and issubclass(value, QueryStrategy)
            and value.__module__ == module.__name__
            and not inspect.isabstract(value)
            and hasattr(value, "name")
        ):
            yield value


def _checked(cls: Any, where: str) -> type[QueryStrategy]:
    if not (inspect.isclass(cls) and issubclass(cls, QueryStrategy)) or inspect.isabstract(cls):
        raise ActiveError(f"{where} is not a query strategy: it has to be a class derived from QueryStrategy.")
    return cls


def _load_file(path: Path) -> ModuleType:
    # The name includes the path, so two files of the same name do not replace each other.
    module_name = f"nnunet_active_strategy_{path.stem}_{hashlib.sha1(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look their module up here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise ActiveError(f"The strategy file {path} fails: {type(error).__name__}: {error}") from error
    return module
