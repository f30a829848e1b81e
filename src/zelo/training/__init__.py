"""How models learn: plain functions that take data and return or write models."""
