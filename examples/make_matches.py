"""Make up a season: eight clubs of known strength, everybody plays everybody twice. Prints a CSV file.

python examples/make_matches.py > examples/matches.csv
"""

import numpy as np

STRENGTH = {"Ash": 1.5, "Birch": 1.0, "Cedar": 0.6, "Elm": 0.2, "Fir": -0.2, "Hazel": -0.6, "Larch": -1.0, "Oak": -1.5}  # logits


def main() -> None:
    """Print one line per match: who played, and the result for the first, 1, 0.5 or 0."""
    rng = np.random.Generator(np.random.PCG64(7))
    print("first,second,result")
    for first in STRENGTH:
        for second in STRENGTH:
            if first != second:
                margin = STRENGTH[first] - STRENGTH[second] + rng.logistic()
                print(f"{first},{second},{0.5 if abs(margin) < 0.3 else float(margin > 0)}")


if __name__ == "__main__":
    main()
