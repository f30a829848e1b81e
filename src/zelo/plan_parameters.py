"""The recipe's section [plan]: the collection and the device that `zelo plan RECIPE` takes for granted."""

from __future__ import annotations

from dataclasses import dataclass

from zelo.parameters import parameter


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
