"""Sections of the recipe that say where data comes from: documents and questions, other systems, a parent. The others are in recipe.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zelo.parameters import parameter


@dataclass(frozen=True)
class Ingest:
    """Which questions and documents to work on."""

    collection: str = parameter("python_docs", "a BEIR folder; or documents (folder, file, hf:OWNER/NAME); or python_docs, synthetic")
    queries: str = parameter("", "what people asked: a text with one per line, or a table; empty = the collection's own")
    query_column: str = parameter("", "of a table of queries: their column; empty = the first known name")
    split: Literal["files", "all", "none"] = parameter(
        "files", "what is cut into passages: files = Markdown, HTML, PDF and text; all = the rows of tables too; none = nothing"
    )
    passage_characters: int = parameter(1000, "longest passage; the small encoder reads about so many", least=50, most=100_000)
    text_column: str = parameter("", "of tables of documents: the column with the text; empty = the first known name")
    id_column: str = parameter("", "the column with the ids; empty = the first known name")
    max_megabytes: float = parameter(50.0, "larger files are not read; tables that are read row by row may be", least=0.001)
    unreadable: Literal["skip", "stop"] = parameter(
        "skip", "of many files some that cannot be read: skip = go on and name them, stop = stop"
    )
    test_split: str = parameter("test", "the split whose questions are kept out of training and reported on")
    max_train_queries: int = parameter(400, "train on at most so many questions, chosen by a hash of their ids; 0 = all", least=0)
    max_test_queries: int = parameter(0, "report on at most so many questions, chosen likewise; 0 = all", least=0)


@dataclass(frozen=True)
class Rankings:
    """One of the systems that are compared without labels."""

    run: str = parameter("", "its rankings: a TREC run")


@dataclass(frozen=True)
class Benchmark:
    """Systems compared by the judges' scores instead of labels (line = "benchmark")."""

    depth: int = parameter(
        10, "documents of each system and question that are pooled and judged; the measure is nDCG at this depth", least=1
    )
    draws: int = parameter(100, "draws of the scores from what the answers leave open", least=10, most=10_000)
    panels: int = parameter(
        40, "at most so many sets of judges in the intervals, drawn with replacement from the ensemble", least=1, most=1000
    )
    systems: Mapping[str, Rankings] = parameter({}, 'one table per system: [benchmark.systems."NAME"]')


@dataclass(frozen=True)
class Refine:
    """A further round in a workspace of its own, made by `zelo refine`: what the parent's model ranks low (paper section 5.6)."""

    parent: str = parameter("", "the workspace that this one goes on from; empty = this is a first round")
    reference: Literal["auto", "labels", "production", "scores"] = parameter(
        "auto", "the document that should be on top: auto = production where the file has it, else labels; without both scores"
    )
    production: str = parameter("", "what was shown or clicked: a TREC run, or JSON Lines of query_id or query, doc_id, and score or not")
    threshold: int = parameter(0, "a reference document ranked below this place is a failure; 0 = chosen by share", least=0)
    share: float = parameter(0.2, "choose the smallest threshold with at most this share of failures", least=0.0, most=1.0)


@dataclass(frozen=True)
class Planning:
    """What `zelo plan RECIPE` takes for granted of a collection that is not there yet; no stage reads it."""

    documents: int = parameter(100_000, "documents of the corpus", least=1)
    queries: int = parameter(1000, "questions without labels; ingest.max_train_queries of them train", least=1)
    test_queries: int = parameter(0, "questions that are reported on", least=0)
    document_tokens: float = parameter(300.0, "mean length of a document; a token is 4 characters", least=1.0)
    query_tokens: float = parameter(15.0, "mean length of a question", least=1.0)
    id_characters: float = parameter(16.0, "mean length of the id of a question and the id of a document together", least=2.0)
    gpu_tflops: float = parameter(989.0, "of one GPU: its peak in 10^12 bfloat16 operations per second (H100: 989)", least=0.001)
    utilization: float = parameter(0.4, "share of the peak that training and reading reach", least=0.001, most=1.0)
    gpu_price: float = parameter(0.0, "US dollars per GPU-hour; 0 = unknown", least=0.0)
