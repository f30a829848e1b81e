"""What a server or `zelo rerank` scores with: a model folder alone, or a workspace's student with the workspace's vectors at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zelo.errors import WorkspaceError
from zelo.pipeline import Context
from zelo.progress import Silent
from zelo.promotion import in_use
from zelo.rerankers import Reranker, load_reranker
from zelo.stages import inputs
from zelo.workspace import Workspace

if TYPE_CHECKING:
    from zelo.rerankers.engines import EngineName


@dataclass(frozen=True)
class Served:
    """A reranker and where it is from.

    `context` reads the workspace whose student it is; None for a model folder. `path` and `engine` are what was asked
    for: loading it again gives what is in use then.
    """

    name: str
    reranker: Reranker
    context: Context | None = None
    path: Path | None = None
    engine: EngineName | None = None

    @property
    def source(self) -> str:
        """The name of the workspace whose model it is, which is another one's after a promotion."""
        return self.context.workspace.root.resolve().name if self.context else self.name


def load_served(path: Path, engine: EngineName | None = None) -> Served:
    """Load a model folder, or the student of a workspace: the one that was promoted to its place, if one was (`zelo promote`).

    `engine` is what computes, see `load_reranker`; None = as the workspace's recipe says (`rank.engine`), for a folder alone auto.

    A workspace's own texts keep the vectors that its stages worked with, so they get the scores of `rankings/pointwise.trec`. Other
    texts are encoded when they come, each as if it were alone: what a text's vectors are does not depend on how requests were put
    together. The words' statistics are those of the corpus, which the model folder holds.

    Raises:
        WorkspaceError: the workspace has no student yet, or the promoted one is gone or another one now.
        InputError: the folder holds no model.
    """
    if not (path / "recipe.toml").is_file():
        return Served(path.resolve().name, load_reranker(path, engine=engine or "auto"), path=path, engine=engine)
    workspace = in_use(Workspace.open(path))
    context = Context(workspace, workspace.recipe, workspace.root, Silent())
    if not context.read("model").is_dir():
        raise WorkspaceError("has no trained model yet", where=str(path), remedy=f"`zelo run {path}` makes it")
    texts, query_texts = inputs.documents(context), inputs.queries(context)
    bank = inputs.CorpusSignals(context, texts, query_texts).bank
    reranker = load_reranker(context.read("model"), bank, engine or context.recipe.rank.engine)
    return Served(path.resolve().name, reranker, context, path, engine)
