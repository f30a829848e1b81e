"""A judge's line: its questions, and the limits that its calls wait for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zelo.judges import Answer, Comparison
from zelo.judges.limits import AdaptiveConcurrency, Bucket
from zelo.judges.own import estimated, settings_of

if TYPE_CHECKING:
    from zelo.judges.running import Job


class Line:
    """A job with its judge's limits."""

    def __init__(self, job: Job, capped: bool) -> None:
        """Read the limits; with a cap on what is spent, every call has an estimate.

        Raises:
            JudgeError: what the judge says about itself cannot be.
        """
        settings = settings_of(job.judge)
        self.bounded = capped or settings.tokens_per_minute > 0  # else nobody asks what a call may take
        self.job, self.batched = job, getattr(job.judge, "batch", None) is not None
        self._estimates = getattr(job.judge, "estimate", None) is not None
        self.most, self.calls = settings.concurrency, settings.calls_per_attempt
        self.slots = AdaptiveConcurrency(self.most)
        self.requests, self.tokens = Bucket(settings.requests_per_minute), Bucket(settings.tokens_per_minute)
        self.paced = self.requests.limits or self.tokens.limits
        self.waits = not getattr(job.judge, "times_out", False)
        self.limited_since: float | None = None
        self.lost = 0  # in a row
        self._answers, self._took_tokens, self._took_dollars = 0, 0, 0.0

    def took(self, answer: Answer) -> None:
        """Learn what an attempt takes, for judges that do not say."""
        self._answers, self._took_tokens = self._answers + 1, self._took_tokens + answer.tokens
        self._took_dollars += answer.cost

    def estimate(self, comparison: Comparison) -> tuple[int, float]:
        """Return tokens and US dollars that one attempt may take at most; where the judge does not say, the mean of this run so far.

        Raises:
            JudgeError: what the judge says is no estimate.
        """
        if not self._estimates:
            answers = max(self._answers, 1)
            return math.ceil(self._took_tokens / answers), self._took_dollars / answers
        read, written, dollars = estimated(self.job.judge, comparison)
        return read + written, dollars
