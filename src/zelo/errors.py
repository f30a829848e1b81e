"""The exception tree. Every message says what is wrong, where, and the remedy, on one line.

ZeloError                   base of all; the command line prints it and exits with 2
    InputError              a file or value from outside is unusable (also a ValueError)
        RecipeError         a recipe names an unknown key or a value out of range
    WorkspaceError          a workspace folder is missing, not one of ours, or not writable
    MissingExtraError       an optional dependency is not installed (also an ImportError)
    ConvergenceError        a fit did not reach its tolerance (also an ArithmeticError)
    JudgeError              a judge cannot go on: too many judgments are missing, no right to ask, the budget is spent
    ClusterError            workers on other processes cannot be reached, or were lost too often
    RetryError              one call failed and may work when repeated; never reaches the user
"""

from __future__ import annotations


class ZeloError(Exception):
    """Base class: `except ZeloError` catches whatever zelo raises on purpose.

    `what` is the fault, `where` a file:line or an id, `remedy` what the user can do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        parts = [f"{where}: {what}" if where else what, remedy]
        message = ". ".join(p.rstrip(".") for p in parts if p)
        super().__init__(" ".join(message.splitlines()))  # what another library said may have several lines


class InputError(ZeloError, ValueError):
    """A file or a value from outside is unusable."""


class RecipeError(InputError):
    """A recipe names an unknown key or gives a value out of range."""


class WorkspaceError(ZeloError):
    """A workspace folder is missing, not one of ours, or not writable."""


class MissingExtraError(ZeloError, ImportError):
    """An optional dependency is not installed; the remedy names the extra."""


class ConvergenceError(ZeloError, ArithmeticError):
    """A fit did not reach its tolerance; its numbers are not returned."""


class JudgeError(ZeloError):
    """A judge cannot go on: too many judgments are missing, no right to ask, the budget is spent.

    `input_tokens`, `output_tokens` and `cost` are what finished calls of the same attempt took.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class ClusterError(ZeloError):
    """Workers in other processes or on other machines cannot be reached, or were lost again and again."""


class RetryError(ZeloError):
    """One call failed and may work when repeated.

    `after` is how many seconds the server asks to wait, None if it does not say. `limited` says that the server refused because
    of its limits: fewer calls at once are the remedy. `input_tokens`, `output_tokens` and `cost` are what the failed call
    took, if it was billed, and finished calls of the same attempt.
    `sent` says that the request went out and no reply came: it may be billed, and nobody knows for how much.
    """

    def __init__(
        self,
        what: str,
        *,
        after: float | None = None,
        limited: bool = False,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cost: float = 0.0,
        sent: bool = False,
    ) -> None:
        super().__init__(what)
        self.after, self.limited, self.sent = after, limited, sent
        self.input_tokens, self.output_tokens, self.cost = input_tokens, output_tokens, cost
