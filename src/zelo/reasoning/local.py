"""A causal language model in a folder on this machine, as the other language models are asked: no server, no network.

Requests that wait together are generated together. Without a chat template the messages are plain text, as for base models.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from zelo.encoders.extras import import_extra, loading_errors
from zelo.encoders.openvino_engine import quiet
from zelo.errors import InputError
from zelo.language_models.names import open_model
from zelo.language_models.protocol import BadRequest, LanguageModel, Reply, Request, Role, UnsupportedOutput

PREFIX = "local:"
TOGETHER = 16
"""Most requests generated at once."""
GATHER = 0.02
"""Seconds to wait for others before generating."""


def open_writer_model(name: str, timeout: float) -> LanguageModel:
    """Return the model of a name: `local:FOLDER`, or what `language_models.open_model` takes; errors as there.

    Raises:
        InputError: the folder holds no causal language model.
    """
    return LocalModel(Path(name.removeprefix(PREFIX))) if name.startswith(PREFIX) else open_model(name, timeout=timeout)


class LocalModel:
    """A `LanguageModel` of transformers. Draws differ from run to run unless the temperature is 0; the journal keeps what was drawn."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        """Load it.

        Args:
            folder: as transformers saves a causal language model, with its tokenizer.
            device: auto = a GPU if there is one.

        Raises:
            InputError: the folder holds none.
            MissingExtraError: torch or transformers is not installed.
        """
        torch, library = import_extra("torch", "torch"), import_extra("transformers", "transformers")
        self.name, self._torch = f"{PREFIX}{folder}", torch
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        kind = torch.bfloat16 if self._device.startswith("cuda") else torch.float32
        try:
            with quiet():
                self._tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
                model = library.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=kind)
        except loading_errors() as error:
            what = f"no causal language model ({str(error).strip().partition(chr(10))[0]})"
            raise InputError(what, where=str(folder), remedy="name a folder that transformers saved, with its tokenizer") from error
        self._model = model.to(self._device).eval()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._waiting: list[tuple[Request, asyncio.Future[Reply]]] = []
        self._pool, self._task = ThreadPoolExecutor(1), None

    async def complete(self, request: Request) -> Reply:
        """Generate one text; see `LanguageModel.complete`."""
        if request.output != "text" or request.top_logprobs:
            raise UnsupportedOutput("a local model writes plain text only", where=self.name)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        task: Any = self._task
        if task is None or task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())  # type: ignore[assignment]
        return await future

    async def close(self) -> None:
        """Nothing is open."""

    async def _work(self) -> None:
        await asyncio.sleep(GATHER)
        while self._waiting:
            first = self._waiting[0][0]
            alike = [
                (r, f) for r, f in self._waiting if (r.temperature, r.max_output_tokens) == (first.temperature, first.max_output_tokens)
            ]
            batch = alike[:TOGETHER]
            self._waiting = [pair for pair in self._waiting if pair not in batch]
            try:
                replies: list[Reply] = await asyncio.get_running_loop().run_in_executor(self._pool, self._generate, [r for r, _ in batch])
            except Exception as error:  # whoever waits must hear of it, whatever the library raises
                for _, future in batch:
                    if not future.done():
                        future.set_exception(BadRequest(f"it cannot be generated ({error})", where=self.name))
                continue
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result(reply)

    def _generate(self, requests: list[Request]) -> list[Reply]:
        start, torch = time.perf_counter(), self._torch
        special = not getattr(self._tokenizer, "chat_template", None)
        batch = self._tokenizer(
            [rendered(self._tokenizer, r.messages) + r.prefix for r in requests],
            return_tensors="pt",
            padding=True,
            add_special_tokens=special,
        )
        batch = {name: value.to(self._device) for name, value in batch.items() if name in ("input_ids", "attention_mask")}
        heat, most = requests[0].temperature, requests[0].max_output_tokens
        how: dict[str, Any] = (
            {"do_sample": False} if heat == 0 else {"do_sample": True, "temperature": heat or 1.0, "top_k": 0, "top_p": 1.0}
        )
        with torch.inference_mode(), quiet():
            ids = self._model.generate(**batch, max_new_tokens=most, pad_token_id=self._tokenizer.pad_token_id, **how)
        new = ids[:, batch["input_ids"].shape[1] :].tolist()
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        seconds, found = time.perf_counter() - start, []
        for row, mask in zip(new, batch["attention_mask"].sum(1).tolist(), strict=True):
            place = next((i for i, token in enumerate(row) if token in ends), None)
            kept = row if place is None else row[:place]
            text = self._tokenizer.decode(kept, skip_special_tokens=True)
            found.append(Reply(text, "length" if place is None else "stop", int(mask), 0, len(kept) + (place is not None), seconds))
        return found


def rendered(tokenizer: Any, messages: Sequence[tuple[Role, str]]) -> str:
    """Return the text that a model is asked with, to be tokenized without more special tokens where there is a chat template.

    Without one it is the messages, one below the other, and an empty line unless the last ends in a blank: a prompt that ends with
    "Answer: " says itself how to go on.
    """
    if getattr(tokenizer, "chat_template", None):
        rows = [{"role": role, "content": text} for role, text in messages]
        return str(tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True))
    text = "\n\n".join(text for _, text in messages)
    return text if text[-1:].isspace() else f"{text}\n\n"
