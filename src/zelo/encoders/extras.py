"""Optional dependencies, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from zelo.errors import MissingExtraError


def import_extra(module: str, package: str, extra: str = "train") -> Any:
    """Import an optional module.

    Args:
        module: dotted module name.
        package: name of the distribution that has it, for the message.
        extra: the extra of zelo that brings the distribution.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # installed, but one of its own dependencies is missing: that message is the useful one
        raise MissingExtraError(f"the package {package} is not installed", remedy=f"pip install 'zelo[{extra}]'") from error


def loading_errors() -> tuple[type[Exception], ...]:
    """Return what libraries raise when a folder's files are no model, or end too early: for an except clause around their loading."""
    cut = import_extra("safetensors", "safetensors").SafetensorError
    return (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, cut)
