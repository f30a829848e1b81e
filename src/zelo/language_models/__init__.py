"""Language models behind a network: one request, one reply; retries, limits, budget and journal are the caller's.

`names.open_model` opens one by its name in a recipe; `protocol` has what is asked and what comes back.
"""
