"""A stand-in for a Python that has vLLM: as a program a server, as a module `Brain`, which samples for it with hf.

The server is started by the command that starts vLLM, in a moment, for it imports nothing: what it is asked it hands on
through the socket that `--brain` names, to the tests' own process. `--fault NAME[:FILE]` is a fault that a test plants;
FILE marks that it has come, so that it comes once. It has a worker that does nothing, as vLLM's outlive their server.
"""

import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Brain(socketserver.ThreadingUnixStreamServer):
    """Weights and sampling of every fake server that hands on to it; each line is one question, answered by a line."""

    daemon_threads = True

    def __init__(self, path):
        self.samplers, self.lock = {}, threading.Lock()
        super().__init__(path, Question)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, asked):
        with self.lock:
            if asked["server"] not in self.samplers:
                self.samplers[asked["server"]] = Sampler(asked["model"], asked["fault"])
            sampler, body = self.samplers[asked["server"]], asked["body"]
            if asked["path"] == "/inference/v1/generate":
                return {"choices": [sampler.generate(body)]}
            if asked["path"] == "/collective_rpc":
                assert body["method"] == "take_weights"
                sampler.take(body["kwargs"]["folder"])
            if asked["path"] == "/update_weight_version":
                sampler.version = body["new_version"]
        return {}


class Question(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(json.dumps(self.server.answer(json.loads(line))).encode() + b"\n")


class Sampler:
    def __init__(self, model, fault):
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(model)
        self.fault = fault
        if fault == "stale-head":  # it has a head of its own, which only the first push reaches
            config.tie_word_embeddings = False
        self.policy = AutoModelForCausalLM.from_config(config).eval()
        self.version, self.pushes, self.engines = "default", 0, {}

    def take(self, folder):
        from safetensors.torch import load_file

        self.pushes += 1
        if self.fault == "skipped-push" and self.pushes > 1:
            return
        state = {name: value for file in sorted(Path(folder).iterdir()) for name, value in load_file(file).items()}
        if self.fault == "stale-head" and self.pushes == 1:
            state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
        self.policy.load_state_dict(state, strict=False)
        self.engines.clear()

    def generate(self, request):
        import numpy as np

        from scaling.rollout_types import Prompt, generator
        from scaling.rollouts.hf import Engine

        asked = request["sampling_params"]
        draws, longest, ends = asked["extra_args"]["draws"], asked["max_tokens"], tuple(asked["stop_token_ids"])

        class Sampling:
            temperature = draws["temperature"]

            @staticmethod
            def uniforms_GT(index, group_size):
                own = generator(draws["seed"], draws["purpose"], draws["step"], index)
                return own.random((draws["sample"] + 1, longest))[-1:]

        key = (str(draws["allowed"]), ends)
        if key not in self.engines:
            allowed_V = np.zeros(self.policy.config.vocab_size, dtype=bool)
            for first, end in draws["allowed"]:
                allowed_V[first:end] = True
            self.engines[key] = Engine(allowed_V=allowed_V, end_ids=ends)
            self.engines[key].load_weights(self.policy, 0)
        found = self.engines[key].generate([Prompt("", tuple(request["token_ids"]), draws["prompt"])], 1, Sampling)
        tokens = list(found.responses[0])
        version = "0" if self.fault == "wrong-version" else self.version
        return {
            "token_ids": tokens,
            "finish_reason": "length" if found.truncated_B[0] else "stop",
            "weight_versions": [{"version": version, "start": 0, "end": len(tokens)}],
            "logprobs": {"content": [{"logprob": float(x)} for x in found.logprobs_BT[0, : len(tokens)]]},
        }


# ---------------------------------------------------------------- the program


def option(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        status, told = 401, b"{}"
        if self.headers["Authorization"] == f"Bearer {os.environ['SCALING_VLLM_KEY']}":
            status, told = 200, b"{}" if self.path == "/health" else self.hand_on(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST

    def hand_on(self, body):
        fault, _, mark = option("--fault").partition(":")
        if self.path == "/inference/v1/generate" and fault in ("dies", "hangs") and not (mark and os.path.exists(mark)):
            if mark:
                Path(mark).write_text(str(WORKER.pid))
            if fault == "hangs":
                threading.Event().wait()
            print("ValueError: the worker has run out of luck", flush=True)
            os._exit(1)
        asked = {"server": os.getpid(), "model": option("--model"), "fault": fault, "path": self.path, "body": body}
        with socket.socket(socket.AF_UNIX) as brain:
            brain.connect(option("--brain"))
            brain.sendall(json.dumps(asked).encode() + b"\n")
            return brain.makefile("rb").readline()

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    if sys.argv[1] == "-c":  # which vLLM is it?
        sys.exit(print("0.32.0"))
    WORKER = subprocess.Popen(["sleep", "1000"])
    ThreadingHTTPServer((option("--host"), int(option("--port"))), Handler).serve_forever()
