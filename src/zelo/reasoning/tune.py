"""Light fine-tuning on few traces: the common training loop, the prompt masked, all weights or low-rank adapters.

Defaults are for twenty traces: small steps of few rows and many passes. s1 and LIMO, whose settings are public, train 1,000 and 800
traces for 5 and 15 passes at 1e-5 and 5e-6; the paper's own settings are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import zelo
from zelo.encoders.weights import model_digest, resolve_model
from zelo.errors import InputError
from zelo.reasoning.local import rendered
from zelo.reasoning.prompt_files import Prompt
from zelo.rerankers.card import license_of, name_of
from zelo.rerankers.templates import load_tokenizer
from zelo.training.causal import CausalLearner, Ids, row_of, source_of, token_loss
from zelo.training.loop import Report, Settings, train
from zelo.types import Problem, Trace

KIND = "reasoner"


@dataclass(frozen=True)
class Tuning:
    """How to tune.

    Attributes:
        learning_rate: peak; adapters bear about ten times that of all weights.
        epochs: passes over the traces.
        batch_size: traces per step.
        lora_rank: of adapters on every linear layer; 0 = all weights.
        max_tokens: of a trace with its prompt; a longer one is refused, never cut.
        weight_decay: of matrices.
        gradient_checkpointing: less memory, a third more work.
        token_budget: most padded tokens of a forward pass; 0 = what suits the device.
        seed: of order, adapters and dropout.
        threads: cores; 0 = as many as torch is set to.
    """

    learning_rate: float = 1e-5
    epochs: int = 5
    batch_size: int = 4
    lora_rank: int = 0
    max_tokens: int = 32768
    weight_decay: float = 1e-4
    gradient_checkpointing: bool = False
    token_budget: int = 0
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if (
            not self.learning_rate > 0
            or self.epochs < 1
            or self.batch_size < 1
            or self.lora_rank < 0
            or self.max_tokens < 2
            or self.token_budget < 0
        ):
            raise InputError(f"{self} cannot be", remedy="rate above 0; epochs, batch size from 1; rank, budget from 0; tokens from 2")


CHECKPOINT_SECONDS = 2.0
"""Between checkpoints, as far as they take a tenth of the time: a light tuning is over in a minute."""


def rows_of(traces: Sequence[Trace], problems: Mapping[str, Problem], prompt: Prompt, tokenizer: Any, most: int) -> list[Ids]:
    """Return traces as rows to learn: the problem in the prompt masked, the trace and the end of the text learned.

    Raises:
        InputError: a trace that does not fit, or a tokenizer without an end of text.
    """
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no end of text", remedy="use a tokenizer with an eos token: the model must learn to stop")
    found = []
    special = not getattr(tokenizer, "chat_template", None)
    for trace in traces:
        problem = problems[trace.problem_id]
        text = rendered(tokenizer, prompt.messages(problem.task, problem=problem.prompt))
        asked = tokenizer(text, add_special_tokens=special)["input_ids"]
        asked = asked[:-1] if special and asked and asked[-1] == tokenizer.eos_token_id else asked  # some end every text
        written = tokenizer(trace.reasoning, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        try:
            found.append(row_of(asked, [*written, tokenizer.eos_token_id], most))
        except InputError as error:
            raise InputError(error.what, where=trace.problem_id, remedy=error.remedy) from None
    return found


def tune(
    traces: Sequence[Trace],
    problems: Mapping[str, Problem],
    prompt: Prompt,
    base: str,
    tuning: Tuning,
    folder: Path,
    work: Path,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Teach a model some traces and write it, with its tokenizer and a card; transformers loads the folder as it is.

    Args:
        traces: to learn; not verified here: controls are wrong on purpose.
        problems: by id.
        prompt: of kind "solve", without examples; the tuned model is to be asked with it.
        base: name or folder of a causal language model.
        tuning: how.
        folder: where the model goes.
        work: of checkpoints; a killed training goes on from there.
        advance: called with (steps done, steps).

    Returns:
        What the training did; its loss is in nats per learned token.

    Raises:
        InputError: no traces, one that does not fit, or a base that cannot be used.
        ConvergenceError: the loss is not a number any more.
        MissingExtraError: a package of the extra `train` is not installed.
    """
    if not traces:
        raise InputError("there are no traces to learn", remedy="select some")
    source_folder = resolve_model(base)
    tokenizer = _tokenizer(source_folder)
    rows = rows_of(traces, problems, prompt, tokenizer, tuning.max_tokens)
    learner = CausalLearner.load(source_folder, precision="auto" if tuning.lora_rank else "float32")
    if tuning.lora_rank:
        learner.add_lora(tuning.lora_rank, seed=tuning.seed)
    report = train(learner, source_of(rows), token_loss, _settings(tuning), work, tuning.seed, advance)
    learner.save(folder)
    tokenizer.save_pretrained(folder)
    _describe(folder, base, source_folder, prompt, tuning, report, traces, rows)
    return report


def _tokenizer(folder: Path) -> Any:
    files = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
    if not any((folder / name).is_file() for name in files):
        raise InputError("the base has no tokenizer", where=str(folder), remedy="put its tokenizer.json and tokenizer_config.json there")
    return load_tokenizer(folder)


def _settings(tuning: Tuning) -> Settings:
    return Settings(
        learning_rate=tuning.learning_rate,
        epochs=tuning.epochs,
        batch_size=tuning.batch_size,
        weight_decay=tuning.weight_decay,
        token_budget=tuning.token_budget,
        gradient_checkpointing=tuning.gradient_checkpointing,
        checkpoint_seconds=CHECKPOINT_SECONDS,
        threads=tuning.threads,
    )


def _describe(
    folder: Path, base: str, source: Path, prompt: Prompt, tuning: Tuning, report: Report, traces: Sequence[Trace], rows: Sequence[Ids]
) -> None:
    learned = [int((row >= 0).sum()) for row in rows]
    about = {
        "kind": KIND,
        "base": name_of(base),
        "base_digest": model_digest(source),
        "prompt": prompt.name,
        "tuning": {name: value for name, value in asdict(tuning).items() if name != "threads"},
        "traces": [list(t.key) for t in traces],
        "loss": report.loss,
    }
    (folder / "zelo.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", "utf-8")
    facts = {
        "made from": name_of(base),
        "traces": len(traces),
        "sources": ", ".join(sorted({t.source for t in traces})),
        "learned tokens": f"{sum(learned):,} per pass, median {int(np.median(learned)):,} per trace",
        "trained": f"low-rank adapters of rank {tuning.lora_rank}, merged" if tuning.lora_rank else "all weights",
        "passes": tuning.epochs,
        "learning rate": tuning.learning_rate,
        "steps": report.steps,
        "loss, last tenth": f"{report.loss:.4f} nats per learned token",
        "prompt": prompt.name,
    }
    (folder / "README.md").write_text(_card(facts, base), "utf-8")


def _card(facts: Mapping[str, object], base: str) -> str:
    license_name = license_of(base)
    front = ["library_name: transformers", "pipeline_tag: text-generation", *([f"license: {license_name}"] if license_name else [])]
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    stated = f"`{license_name}` according to its card" if license_name else "which its card does not state"
    return (
        "---\n" + "\n".join([*front, "tags: [reasoning, zelo]"]) + "\n---\n# Reasoner\n\n"
        "A causal language model, lightly fine-tuned on few worked reasonings (after arXiv 2507.09850). Ask it with the prompt that is "
        "named here. Whether it reasons better than its base is for `zelo reasoning grade` to say; this card does not.\n\n"
        f"| | |\n|---|---|\n{rows}\n| written by | zelo {zelo.__version__} |\n\n"
        f"**License.** The weights are derived from those of `{name_of(base)}`, whose license ({stated}) goes with them. The traces that "
        "it learned from may have terms of their own.\n"
    )
