"""`zelo watch`: a log of live searches, sampled, judged within a daily budget, charted, and sorted into kinds of failure."""
