"""A server for a trained reranker: the dialects that clients already speak, batching across requests, a page to try it."""
