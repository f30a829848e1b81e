"""A language model small enough to make within a test, behind a real server: llama.cpp's, with OpenAI's chat completions on loopback.

    with tiny_server() as server:
        judge = f"{server.url}#tiny"      # a name for a recipe

The model is a Qwen3 of about 0.3 million random parameters with a byte-level tokenizer: it knows nothing, but it is deterministic,
answers within a grammar, gives log probabilities, and fails as real ones do: some of what it writes is not decodable. `server.folder`
has the same weights for transformers. The server is a process of its own: when it dies, the tests do not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zelo.encoders.openvino_engine import quiet
from zelo.judges.prompting import LABELS

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
}
CONTEXT = 8192


@dataclass(frozen=True)
class TinyServer:
    """A running server: its address up to `/v1`, and the folder with the model for transformers."""

    url: str
    folder: Path


@cache
def write_tiny_llm() -> Path:
    """Write the model, for transformers and as `model.gguf`, and return the folder; once per machine and version of this file."""
    key = hashlib.sha256(Path(__file__).read_bytes() + "".join(_sentences()).encode()).hexdigest()[:16]
    done = Path(tempfile.gettempdir()) / f"zelo-tiny-llm-{os.getuid()}-{key}"
    if not (done / "model.gguf").is_file():
        folder = Path(tempfile.mkdtemp(prefix="zelo-tiny-llm-"))
        _write_model(folder)
        write_gguf(folder)
        try:
            folder.rename(done)
        except OSError:  # another process was faster
            shutil.rmtree(folder)
    return done


def _write_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(vocab_size=1024, special_tokens=list(SPECIAL), initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(_sentences(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[2], pad_token=SPECIAL[0], chat_template=TEMPLATE)
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        eos_token_id=2,
        bos_token_id=None,
        pad_token_id=0,
        initializer_range=0.3,  # wide: what it says depends on what it reads
        **SIZES,
    )
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config)
        with torch.no_grad():
            model.lm_head.weight.mul_(0.3)  # no token is certain
            # After the prompts of zelo the labels are likely, one more than the other: mode "logprobs" has something to read.
            shown = [fast.apply_chat_template([{"role": "user", "content": t}], add_generation_prompt=True) for t in _sentences()[:8]]
            states = [model.model(torch.tensor([ids])).last_hidden_state[0] for ids in map(_ids, shown)]
            last, mean = torch.stack([s[-1] for s in states]).mean(0), torch.cat(states).mean(0)
            for label in LABELS:
                model.lm_head.weight[tokenizer.token_to_id(label)] += 7 * last / last.dot(last)
            for end in ('"', '",'):  # texts come to an end
                number = tokenizer.token_to_id(end)
                if number is not None:
                    model.lm_head.weight[number] += 5 * mean / mean.dot(mean)
        model.save_pretrained(folder)
        fast.save_pretrained(folder)


def _ids(encoded: Any) -> list[int]:
    return list(encoded["input_ids"] if isinstance(encoded, Mapping) else encoded)


def _sentences() -> list[str]:
    """Text to learn a tokenizer from: the prompts themselves."""
    from zelo.judges.prompt_files import load_prompt, prompt_names

    prompts = [load_prompt(name) for name in prompt_names()]
    return [text for p in prompts for text in (p.system, p.question, p.documents, *p.formats.values())]


_TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
"""Name in transformers (of a layer, without its number) -> name in GGUF."""


def write_gguf(folder: Path) -> None:
    """Write `model.gguf` beside the weights that transformers saved: the tiny model's, or those of one that was tuned from it."""
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(str(folder / "model.gguf"), "qwen3")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float((config.get("rope_parameters") or config)["rope_theta"]))
    writer.add_file_type(0)
    words = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([word for word, _ in words])
    kinds = [gguf.TokenType.CONTROL if word in SPECIAL else gguf.TokenType.NORMAL for word, _ in words]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, array in load_file(folder / "model.safetensors").items():
        layer = name.split(".")[2] if name.startswith("model.layers.") else None
        short = _TENSORS[".".join(name.split(".")[3:]) if layer else name]
        writer.add_tensor(f"blk.{layer}.{short}" if layer else short, np.asarray(array, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def tiny_server(*, slots: int = 4, folder: Path | None = None) -> Iterator[TinyServer]:
    """Serve the model, or another folder's `model.gguf`, on a free port until the block ends."""
    folder = folder or write_tiny_llm()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "server.log"
        command = [sys.executable, __file__, str(folder / "model.gguf"), str(port), str(slots)]
        with log.open("wb") as out:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.PIPE, env=environment)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield TinyServer(f"http://127.0.0.1:{port}/v1", folder)
        finally:
            process.kill()
            process.wait(10)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {log.read_text('utf-8', 'replace')[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text('utf-8', 'replace')[-2000:]}")


def label_logits(folder: Path, messages: Sequence[dict[str, str]], labels: Sequence[str]) -> list[float]:
    """Return the log probabilities of one-token labels after messages, by transformers: the second witness."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet(), torch.no_grad():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        ids = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
        found = model(ids).logits[0, -1].double().log_softmax(-1)
        return [float(found[tokenizer.convert_tokens_to_ids(label)]) for label in labels]


def _serve(model: str, port: int, slots: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = CONTEXT * slots
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.use_jinja = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()  # until the parent closes its end or dies


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
