"""Make up a season: ten clubs of known strength, of 45 possible pairs 20 play, home and away. Prints a CSV file.

python examples/make_matches.py > examples/matches.csv
"""

import numpy as np

import zelo

STRENGTH = {
    "Ash": 1.8, "Birch": 1.4, "Cedar": 1.0, "Elm": 0.6, "Fir": 0.2, "Hazel": -0.2, "Larch": -0.6, "Oak": -1.0, "Pine": -1.4, "Rowan": -1.8,
}  # fmt: skip  # logits


def main() -> None:
    """Print one line per match: who played, and the result for the first, 1, 0.5 or 0."""
    rng = np.random.Generator(np.random.PCG64(7))
    designed = zelo.design_pairs(list(STRENGTH), degree=4)
    pairs = list(zip(designed["first"].to_pylist(), designed["second"].to_pylist(), strict=True))
    print("first,second,result")
    for first, second in pairs + [pair[::-1] for pair in pairs]:
        margin = STRENGTH[first] - STRENGTH[second] + rng.logistic()
        print(f"{first},{second},{0.5 if abs(margin) < 0.3 else float(margin > 0)}")


if __name__ == "__main__":
    main()
