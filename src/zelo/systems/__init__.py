"""Systems in one table: hosted rerankers and models of one's own, on the same questions and candidates, and how long they take."""
