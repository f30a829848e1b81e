"""Brings the journals of several machines together. What both have is kept once; what one has and the other not is added."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from zelo.errors import InputError
from zelo.judges.journal import Journal, refusals

_COPY = """
INSERT OR IGNORE INTO main.judges (judge, prompt_id) SELECT judge, prompt_id FROM other.judges ORDER BY id;
INSERT OR IGNORE INTO main.texts (digest, name) SELECT digest, name FROM other.texts ORDER BY id;
INSERT OR IGNORE INTO main.words (text) SELECT text FROM other.words ORDER BY id;

CREATE TEMP TABLE judge_of AS SELECT o.id AS old, m.id AS new FROM other.judges o JOIN main.judges m USING (judge, prompt_id);
CREATE TEMP TABLE word_of AS SELECT o.id AS old, m.id AS new FROM other.words o JOIN main.words m USING (text);
CREATE TEMP TABLE text_of (old INTEGER PRIMARY KEY, new INTEGER NOT NULL);
INSERT INTO text_of SELECT o.id, m.id FROM other.texts o JOIN main.texts m USING (digest);
INSERT INTO text_of VALUES (0, 0);

CREATE TEMP TABLE theirs (
    old INTEGER PRIMARY KEY, query INTEGER NOT NULL, first INTEGER NOT NULL, second INTEGER NOT NULL, second_query INTEGER NOT NULL
);
INSERT INTO theirs SELECT o.id, q.new, f.new, s.new, t.new
    FROM other.questions o JOIN text_of q ON q.old = o.query JOIN text_of f ON f.old = o.first JOIN text_of s ON s.old = o.second
    JOIN text_of t ON t.old = o.second_query;
CREATE TEMP TABLE ours (
    query INTEGER NOT NULL, first INTEGER NOT NULL, second INTEGER NOT NULL, second_query INTEGER NOT NULL, id INTEGER NOT NULL,
    PRIMARY KEY (query, first, second, second_query)
) WITHOUT ROWID;
INSERT INTO ours SELECT query, first, second, second_query, id FROM main.questions;
INSERT INTO main.questions (query, first, second, second_query)
    SELECT t.query, t.first, t.second, t.second_query FROM theirs t
    LEFT JOIN ours o USING (query, first, second, second_query) WHERE o.id IS NULL ORDER BY t.old;
INSERT OR IGNORE INTO ours SELECT query, first, second, second_query, id FROM main.questions;
CREATE TEMP TABLE question_of (old INTEGER PRIMARY KEY, new INTEGER NOT NULL);
INSERT INTO question_of SELECT t.old, o.id FROM theirs t JOIN ours o USING (query, first, second, second_query);

CREATE TEMP TABLE had (
    judge INTEGER NOT NULL, question INTEGER NOT NULL, arrived INTEGER NOT NULL, PRIMARY KEY (judge, question, arrived)
) WITHOUT ROWID;
INSERT OR IGNORE INTO had SELECT judge, question, arrived FROM main.attempts;
CREATE TEMP TABLE attempt_of (new INTEGER PRIMARY KEY, old INTEGER NOT NULL);
INSERT INTO attempt_of
    SELECT (SELECT COALESCE(MAX(id), 0) FROM main.attempts) + ROW_NUMBER() OVER (ORDER BY a.id), a.id
    FROM other.attempts a JOIN judge_of j ON j.old = a.judge JOIN question_of q ON q.old = a.question
    LEFT JOIN had h ON h.judge = j.new AND h.question = q.new AND h.arrived = a.arrived WHERE h.judge IS NULL;
INSERT INTO main.attempts
    SELECT o.new, j.new, q.new, a.preference, a.status, a.input_tokens, a.output_tokens, a.cost, a.seconds, n.new, f.new, a.arrived
    FROM attempt_of o JOIN other.attempts a ON a.id = o.old JOIN judge_of j ON j.old = a.judge JOIN question_of q ON q.old = a.question
    JOIN word_of n ON n.old = a.note JOIN word_of f ON f.old = a.flags ORDER BY o.new;
INSERT INTO main.reasonings SELECT o.new, r.text FROM attempt_of o JOIN other.reasonings r ON r.attempt = o.old ORDER BY o.new;
"""


def merge(into: Path, other: Path) -> int:
    """Add the attempts of another journal, whose numbers are its own: judges go by name and prompt, questions by their texts.

    An attempt that both have (same judge, question and moment) stays one. Where both asked the same question, both attempts stay,
    for both were paid, and the first usable one counts. Batches under way stay with the machine that sent them.

    Args:
        into: journal that is added to; made if it does not exist.
        other: journal that is read.

    Returns:
        How many attempts were added.

    Raises:
        InputError: `other` is no journal, or is the same file.
        WorkspaceError: a file cannot be read or written, or has another version.
    """
    if not other.is_file():
        raise InputError("no journal here", where=str(other), remedy="give a workspace whose stage judge has begun")
    if into.exists() and into.samefile(other):
        raise InputError("a journal cannot be merged with itself", where=str(other), remedy="give other workspaces")
    with Journal(other):  # checks it, and takes in what a killed process left in its write-ahead log
        pass
    with Journal(into), refusals(into), closing(sqlite3.connect(into, isolation_level=None)) as database:
        database.execute("PRAGMA temp_store = MEMORY")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("ATTACH ? AS other", (str(other),))
        database.executescript(f"BEGIN IMMEDIATE; {_COPY}")
        (added,) = database.execute("SELECT COUNT(*) FROM attempt_of").fetchone()
        database.execute("COMMIT")
    return int(added)
