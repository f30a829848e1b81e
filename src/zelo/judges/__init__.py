"""Who compares documents. One more judge is one more file with a `judge` method, and one line in `JUDGES`.

Language models go by a name of another form (`FORMS`), and so does a judge of your own in Python: see docs/judges.md.

A judge sees what is shown, a query and two texts in an order, and never the stored names or order.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import urlsplit

from zelo.errors import RecipeError
from zelo.types import Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zelo.encoders.similarity import LexicalStatistics, VectorBank
    from zelo.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a judge is shown: which of two texts answers the query better?

    With `second_query` the comparison goes across queries: does the first text answer `query` better than the second answers
    `second_query`? Only judges whose `across` is true are asked such questions.
    """

    query: str
    first: str
    second: str
    second_query: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge says.

    `preference` in [-1, 1] is positive when the text shown **first** is better, 0 is a tie, None is no usable answer, and
    then `status` says why and `note` says it in words.

    Attributes:
        preference: in [-1, 1] or None.
        status: "ok" exactly when there is a preference.
        reasoning: what the judge wrote before it decided.
        input_tokens: tokens read, as billed.
        output_tokens: tokens written, as billed.
        cost: US dollars.
        seconds: from sending to the whole answer.
        note: how the answer was read ("schema", "json", "tag", "logprobs"), or what went wrong.
        flags: what looks like an attempt to sway the judge in the texts, comma-separated names; "" is nothing.
    """

    preference: float | None
    status: Status = "ok"
    reasoning: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    note: str = ""
    flags: str = ""

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.input_tokens + self.output_tokens


@runtime_checkable
class Judge(Protocol):
    """Anything that compares. `name` is its name in the journal; `prompt_id` changes when its way of asking does."""

    name: str
    prompt_id: str

    def judge(self, comparisons: Sequence[Comparison]) -> list[Answer]:
        """Answer every comparison, in order; comparisons of one query come together in one call."""
        ...


@runtime_checkable
class RemoteJudge(Protocol):
    """A judge behind a network: asked about one comparison at a time, many at once, each attempt limited, paid and recorded.

    Who writes one for an SDK of their own needs nothing but `attempt`: retries, limits, budget and journal are the caller's.
    """

    name: str
    prompt_id: str

    async def attempt(self, comparison: Comparison) -> Answer:
        """Ask once.

        Returns:
            The answer, also an unusable one (status refused, truncated, unparsable, failed), with what it took.

        Raises:
            RetryError: it may work when asked again, `after` seconds from now if the server says so.
            JudgeError: it will not work for any comparison (no right, no such model): the run stops.
        """
        ...


@dataclass(frozen=True)
class Materials:
    """What offline judges are made from: the corpus's word statistics, and vectors.

    `identity` changes when any of it does: an answer given from other materials is another answer.
    """

    lexical: Callable[[], LexicalStatistics]
    bank: Callable[[], VectorBank]
    token_frequency: Callable[[], tuple[NDArray[np.int64], int]]
    identity: str


@dataclass(frozen=True)
class KnownJudge:
    """A judge that recipes can name: what it goes by, and the `module:function` that makes it from materials."""

    about: str
    maker: str


JUDGES: Mapping[str, KnownJudge] = {
    "lexical": KnownJudge("the words of the question, BM25 with the corpus's statistics", "zelo.judges.retrieval:lexical"),
    "dense": KnownJudge("the meaning of the whole, cosine of the encoder's vectors", "zelo.judges.retrieval:dense"),
    "late_interaction": KnownJudge(
        "the question's words in context, best match of each token, rare ones weighing more", "zelo.judges.retrieval:late_interaction"
    ),
}
"""By name. All run offline with the small encoder."""

FORMS: Mapping[str, str] = {
    "openai:MODEL": "a model of OpenAI, key in OPENAI_API_KEY",
    "anthropic:MODEL": "a model of Anthropic, key in ANTHROPIC_API_KEY",
    "gemini:MODEL": "a model of Google, key in GEMINI_API_KEY",
    "openrouter:MODEL": "any model that OpenRouter has, key in OPENROUTER_API_KEY",
    "http://localhost:8080/v1#MODEL": "any server that speaks OpenAI's chat completions: llama.cpp, vLLM, SGLang, Ollama, ...",
    "https://HOST/v1#MODEL": "the same elsewhere, key in ZELO_API_KEY (Azure: AZURE_OPENAI_API_KEY)",
    "thinking:openai:MODEL": "any of the above, or local:FOLDER, that reasons at length: mean over traces and both orders",
    "python:MODULE:FUNCTION": "a judge of your own: a function that is given the recipe and returns it",
}
"""Forms of names of judges that go by something outside: language models, and Python."""

_PYTHON = re.compile(r"python:([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


def known_judge(name: str, recipe: Recipe | None = None) -> str:
    """Return the name of a judge of the ensemble. Opens nothing, and looks for no key.

    Args:
        name: one of `JUDGES`, or of a form of `FORMS`.
        recipe: if given, a language model's prompt is looked at too.

    Raises:
        RecipeError: no such judge, or no such form. The simulated ones are not here: they read labels, and are built by tests and
            experiments.
        InputError: its prompt is none.
    """
    if name in JUDGES:
        return name
    kind, colon, _ = name.partition(":")
    if kind == "python" and colon:
        if not _PYTHON.fullmatch(name):
            raise RecipeError(f"no judge {name!r}", where="judge.ensemble", remedy="write python:module:function, dots within the module")
        return name
    from zelo.language_models.names import is_model_name, parse_name

    if kind == "thinking" and colon:
        _, _, model = name.partition(":")
        if not model.startswith("local:"):
            parse_name(model)
        if recipe is not None:
            from zelo.judges.thinking import thinking_prompt

            thinking_prompt(name, recipe)
        return name
    if colon and is_model_name(name):
        parse_name(name)
        if recipe is not None:
            from zelo.judges.llm import prompters

            prompters(name, recipe)
        return name
    kinds = {form.partition(":")[0]: form for form in FORMS}
    near = difflib.get_close_matches(kind, [*JUDGES, *kinds], n=1, cutoff=0.6)
    hint = f"did you mean {kinds.get(near[0], near[0])}? " if near else ""
    raise RecipeError(f"no judge {name!r}", where="judge.ensemble", remedy=f"{hint}judges: {', '.join([*JUDGES, *FORMS])}")


def lacks_price(name: str, recipe: Recipe) -> bool:
    """Whether a judge is a language model of somebody else's whose price the recipe does not say."""
    from zelo.language_models.names import is_model_name, parse_name
    from zelo.language_models.transport import loopback

    asked = name.removeprefix("thinking:")
    if not is_model_name(asked) or loopback(urlsplit(parse_name(asked).base).hostname or ""):
        return False
    model = recipe.judge.models.get(name)
    return model is None or not (model.input_price and model.output_price)


def make_judge(name: str, materials: Materials, recipe: Recipe | None = None) -> Judge | RemoteJudge:
    """Build a judge of the ensemble by name.

    Args:
        name: one of `JUDGES`, or of a form of `FORMS`.
        materials: what offline judges are made from.
        recipe: what judges of another form are made from; None = the defaults.

    Raises:
        RecipeError: no such judge; a prompt that does not fit; a function of your own that is not there or returns something else.
        JudgeError: a language model that cannot be asked, for lack of a key for example.
    """
    if known_judge(name) in JUDGES:
        return _offline(name, materials)
    from zelo.recipe import Recipe

    recipe = Recipe() if recipe is None else recipe
    if name.startswith("python:"):
        from zelo.judges.own import own_judge

        return own_judge(name, recipe)
    if name.startswith("thinking:"):
        from zelo.judges.thinking import thinking_judge

        return thinking_judge(name, recipe)
    from zelo.judges.llm import language_model

    return language_model(name, recipe)


def _offline(name: str, materials: Materials) -> Judge:
    module, _, function = JUDGES[name].maker.partition(":")
    judge: Judge = getattr(importlib.import_module(module), function)(materials)
    return judge
