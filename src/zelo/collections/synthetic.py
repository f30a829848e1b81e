"""A tiny made-up collection with known truth, for tests and for trying the pipeline in seconds.

Each document has one topic and a focus: the share of its words that belong to the topic, the rest being words that
fit anywhere. Each query is three words of one topic. The truth is the focus of the documents of that topic, so
retrieval by words finds most of it, and never all: a short text need not hold the three words asked for.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import combinations
from types import MappingProxyType

import numpy as np

from zelo.collections.labels import check_known
from zelo.errors import InputError
from zelo.types import Document, Qrel, Query

_TOPICS = tuple(
    words.split()
    for words in (
        "flour yeast dough oven crust loaf knead bakery butter wheat",
        "planet orbit comet telescope galaxy moon gravity eclipse asteroid rocket",
        "goal striker referee penalty pitch league coach midfield trophy stadium",
        "violin orchestra melody concert piano rhythm choir opera cello composer",
        "harbor sail anchor captain vessel deck cargo tide lighthouse voyage",
        "tomato compost seedling harvest pruning garden soil rose shovel greenhouse",
        "vaccine nurse fever clinic surgeon diagnosis symptom pharmacy infection bandage",
        "lawsuit judge verdict attorney contract jury appeal statute plaintiff testimony",
        "glacier avalanche summit ridge climber rope altitude crevasse sherpa valley",
        "mortgage interest bank deposit credit loan inflation dividend broker pension",
        "lion savanna zebra antelope herd predator elephant giraffe migration waterhole",
        "brick mortar scaffold architect roof concrete crane foundation ceiling plumbing",
    )
)
_FILLER = (
    "people time year place thing part day way point group number case week company system program question work "
    "side night story fact month lot right study book eye job word business issue kind head house service friend "
    "hour game line end member law car city name team minute idea body information back parent face level office"
)
_ANYWHERE = _FILLER.split()
_FOCUS = (0.15, 0.35, 0.6)  # grades 1, 2, 3
_WORDS_PER_TEXT = 15  # a multiple of 3
_WORDS_PER_QUERY = 3


class Synthetic:
    """A made-up collection; every query is labeled, alternately in the splits test and train."""

    name = "synthetic"

    def __init__(self, documents: int = 240, queries: int = 48, seed: int = 0) -> None:
        """Make up the texts.

        Args:
            documents: how many, at least 1.
            queries: how many, at least 1 and at most 120 per topic that has documents (12 topics).
            seed: the same arguments give the same collection.

        Raises:
            InputError: a number is out of range.
        """
        topics = min(len(_TOPICS), documents)
        word_sets = list(combinations(range(len(_TOPICS[0])), _WORDS_PER_QUERY))
        if documents < 1 or not 1 <= queries <= topics * len(word_sets):
            what = f"{documents} documents and {queries} queries cannot be made"
            raise InputError(what, where=self.name, remedy=f"use 1 document or more and 1 to {max(topics, 1) * len(word_sets)} queries")
        rng = np.random.default_rng(seed)
        self._documents = [Document(f"d{i:04d}", _text(i, rng)) for i in range(documents)]
        asked = [iter(rng.permutation(len(word_sets))) for _ in range(topics)]  # no two queries alike
        self._topic_of_query = [j // 2 % topics for j in range(queries)]  # test and train share their topics
        self._queries = [
            Query(f"q{j:03d}", " ".join(_TOPICS[topic][w] for w in word_sets[next(asked[topic])]))
            for j, topic in enumerate(self._topic_of_query)
        ]

    @property
    def notes(self) -> Mapping[str, int]:
        """Nothing is ever set aside."""
        return MappingProxyType({})

    def documents(self) -> Iterator[Document]:
        """Yield the corpus."""
        yield from self._documents

    def queries(self) -> Iterator[Query]:
        """Yield the queries of both splits."""
        yield from self._queries

    def splits(self) -> tuple[str, ...]:
        """Return the splits: every second query is in test, the others in train."""
        return ("test", "train") if len(self._queries) > 1 else ("test",)

    def qrels(self, split: str) -> Iterator[Qrel]:
        """Yield the truth: each document of the query's topic with grade 1 to 3; all others are not relevant."""
        if split not in self.splits():
            raise InputError(f"no labels for the split {split!r}", where=self.name, remedy=f"there are: {', '.join(self.splits())}")
        return (
            Qrel(self._queries[j].query_id, self._documents[i].doc_id, _grade(i))
            for j in range(("test", "train").index(split), len(self._queries), 2)
            # the same arithmetic as in _text: document i is about topic i mod 12
            for i in range(self._topic_of_query[j], len(self._documents), len(_TOPICS))
        )

    def check_qrels(self, query_ids: Container[str], doc_ids: Container[str]) -> None:
        """Check that all labels name known ids; see `labels.check_known`."""
        for split in self.splits():
            check_known(f"{self.name}/{split}", enumerate(self.qrels(split), start=1), query_ids, doc_ids)


def _grade(document: int) -> int:
    return 1 + document // len(_TOPICS) % len(_FOCUS)


def _text(document: int, rng: np.random.Generator) -> str:
    on_topic = rng.random(_WORDS_PER_TEXT) < _FOCUS[_grade(document) - 1]
    topic = _TOPICS[document % len(_TOPICS)]
    words = [str(rng.choice(topic if on else _ANYWHERE)) for on in on_topic]
    # function words, so that the texts pass for English where a language is detected
    return ". ".join(f"The {a} of the {b} and the {c}" for a, b, c in zip(*[iter(words)] * 3, strict=True)) + "."
