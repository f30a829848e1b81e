"""Sections of the recipe about what comes from outside: data, other systems, a parent, live searches. The others are in recipe.py."""

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


@dataclass(frozen=True)
class Customer:
    """What the judges are told about one customer's searches, instead of judge.criterion and judge.context."""

    criterion: str = parameter("", "what relevance means to this customer; empty = judge.criterion")
    context: str = parameter("", "what this customer's documents and searches are; empty = judge.context")


@dataclass(frozen=True)
class Watch:
    """Live searches, judged by `zelo watch`. No stage reads this section."""

    per_day: int = parameter(40, "searches judged per day", least=2)
    questions: int = parameter(4000, "most questions to judges per day, all judges together", least=1)
    dollars: float = parameter(0.0, "most US dollars per day; 0 = no cap", least=0.0)
    challengers: int = parameter(5, "documents per search that are compared with the first three that were returned", least=1, most=50)
    depth: int = parameter(
        10, "documents that users look at; what is returned below counts as a candidate that was ranked too low", least=1
    )
    pool: int = parameter(50, "documents that each leg of the first stage finds, and that the student reranks", least=1)
    anchors: int = parameter(4, "good answers to other queries that the best document is compared with, by judges that can", least=0)
    win: float = parameter(0.8, "a challenger that wins this share of its comparisons is a failure of the search", least=0.5, most=1.0)
    poor: float = parameter(
        0.05, "the best document is not good enough below the level that this share of the baseline has", least=0.0, most=0.5
    )
    fewest: int = parameter(
        5, "judged searches below which a day is on no chart and no day of the baseline: lines of a wrong clock, a holiday", least=1
    )
    baseline_days: int = parameter(7, "days that say what is ordinary", least=2)
    baseline_from: str = parameter("", "the first day that counts, as 2026-03-01: after a deliberate change; empty = the first in the log")
    memory: float = parameter(0.3, "weight of the newest day in the charts' moving average (EWMA)", least=0.01, most=1.0)
    width: float = parameter(3.5, "standard errors from the ordinary level to an alarm", least=0.5, most=10.0)
    trust_lines: bool = parameter(False, "tell the judges the criterion and context that log lines bring: only if no stranger writes them")
    gate_queries: int = parameter(200, "held-out live queries, the newest, that `zelo promote` compares two models on", least=20)
    margin: float = parameter(0.02, "how much worse on the fixed set a new model may be at most, in the first measure", least=0.0, most=1.0)
    customers: Mapping[str, Customer] = parameter({}, 'one table per customer of the log: [watch.customers."NAME"]')
