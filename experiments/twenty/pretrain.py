"""Pre-train the tiny model from nothing: `python experiments/twenty/pretrain.py [--seed 0] [--out FOLDER]`.

The text is a stream of documents in four registers: W and V are worked out, Q and J answered at once. So the skill is in the model
and not where the experiment asks for it. What is learned is everything after `=`: the numbers of a problem are random.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from learner import IGNORED, descend, generate, make_tokenizer
from running_sum import draw, is_right, response
from transformers import Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).resolve().parent
SHARES = {"W": 0.35, "V": 0.35, "Q": 0.15, "J": 0.15}
ROWS, LENGTH, STEPS, RATE, WARM_UP = 12, 160, 1600, 3e-3, 100


def make_model(vocabulary: int, end: int) -> Qwen3ForCausalLM:
    """Return the untrained model: Qwen3 in all but its size."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=end,
        pad_token_id=end,
    )
    return Qwen3ForCausalLM(config)


def accuracy(model: Qwen3ForCausalLM, tokenizer: object, register: str, problems: int = 120) -> float:
    rng = np.random.default_rng([1, ord(register)])
    drawn = [draw(rng, register) for _ in range(problems)]
    model.eval()
    replies = generate(model, tokenizer, [p.question for p in drawn])
    model.train()
    return float(np.mean([is_right(p, reply) for p, reply in zip(drawn, replies, strict=True)]))


def pretrain(seed: int, steps: int, out: Path) -> dict[str, object]:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng, tokenizer = np.random.default_rng(seed), make_tokenizer()
    model = make_model(len(tokenizer), tokenizer.eos_token_id)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    start, ids, labels, size = time.process_time(), [], [], ROWS * LENGTH  # type: float, list[int], list[int], int
    losses = []
    for step in range(steps):
        while len(ids) < size:
            problem = draw(rng, str(rng.choice(list(SHARES), p=list(SHARES.values()))))
            question = tokenizer(problem.question)["input_ids"]
            answer = tokenizer(response(problem, "full" if problem.register in "WV" else "direct", rng))["input_ids"]
            ids, labels = ids + question + answer, labels + [IGNORED] * len(question) + answer
        decay = 0.05 + 0.95 * (1 + np.cos(np.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARM_UP) * decay
        batch = [torch.tensor(part[:size]).view(ROWS, LENGTH) for part in (ids, labels)]
        losses.append(descend(model, optimizer, *batch))
        ids, labels = ids[size:], labels[size:]
        if step % 200 == 199:
            print(
                step + 1, f"loss {np.mean(losses[-50:]):.3f}", *(f"{r} {accuracy(model, tokenizer, r, 60):.2f}" for r in "WV"), flush=True
            )
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    row = {"seed": seed, "steps": steps, "parameters": model.num_parameters(), "cpu_seconds": round(time.process_time() - start)}
    return row | {r: round(accuracy(model, tokenizer, r), 3) for r in SHARES} | {"sha256": digest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=HERE / "model")
    given = parser.parse_args()
    print(json.dumps(pretrain(given.seed, given.steps, given.out)))


if __name__ == "__main__":
    main()
