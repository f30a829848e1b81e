"""What one unit of work takes in this code: CPU seconds of one core and bytes on disk, measured on small runs (experiments/plan).

Seconds are of one core of the machine that ran the experiment; another core may be half or twice as fast. `zelo plan` says so.
"""

from __future__ import annotations

CPU_FLOPS = 1.1e11
"""Operations per second and core in the small encoder."""
START = {"pair": 0.02, "fit": 0.045, "calibrate": 0.01, "evaluate": 0.15, "report": 0.43, "align": 0.013}
"""CPU seconds of a stage whatever the collection. Compiling and loading the encoder, once per process, are not counted."""
SECONDS = {
    "document": 5e-5,  # read, checked and written, or read by a stage that needs the texts
    "bm25 token": 6e-7,  # retrieve: counted, per token of the corpus
    "language token": 4.2e-6,  # retrieve: of the texts that say the language
    "posting": 3e-9,  # retrieve: BM25, per query and document
    "product": 3e-10,  # retrieve: exact dense search, per query, document and dimension
    "found": 3e-6,  # retrieve: per query, leg and document up to `retrieve.depth`
    "compared": 2e-5,  # pair: a document, whether its text occurs twice
    "drawn pair": 7.8e-6,  # pair
    "judged": 4e-5,  # judge: one judgment of an offline judge, whatever the length
    "judged token": 2e-7,  # per token of a document that it reads
    "call": 5e-4,  # judge: the client's own work for one answer over the network (docs/decisions/0019)
    "vote": 2.6e-6,  # pool
    "answered": 2e-5,  # judge-pairwise: journal and preferences, without the model
    "comparison": 4e-7,  # fit
    "score": 3e-7,  # calibrate
    "learned": 1e-4,  # train, blend: a document, whatever the length
    "learned token": 2.7e-6,
    "ranked": 1e-4,  # rank, blend
    "ranked token": 1.8e-6,
    "draw": 8e-9,  # evaluate: per query, system, measure and resample
}
BYTES = {
    "document": 30.0,  # of JSON around the ids and texts
    "candidate": 31.0,  # of a line of candidates/, without ids
    "ranked": 35.0,  # of a line of rankings/
    "graph": 70.0,
    "judgment": 20.5,
    "preference": 12.6,
    "answer": 90.0,  # in the journal
    "score": 19.5,
    "target": 10.2,
    "measured": 5.0,  # report/per_query: a query, system and measure
    "weight": 2.0,  # of a model that was trained, per parameter
}
FIXED = {"pair": 5000, "judge": 2000, "fit": 5000, "align": 3970, "calibrate": 2500, "train": 295_000, "evaluate": 7000, "report": 75_000}
"""Bytes of a stage whatever the collection, mostly heads of Parquet files; `train`: of a blend."""
