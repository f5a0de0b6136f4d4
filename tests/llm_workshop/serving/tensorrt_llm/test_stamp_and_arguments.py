"""Stamps refuse what does not fit, and every argument that we pass is one that TensorRT-LLM promises."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from pathlib import Path

import pytest
import yaml

from llm_workshop.serving.engine import Sampling
from llm_workshop.serving.tensorrt_llm import engine as engine_module
from llm_workshop.serving.tensorrt_llm import stamp as stamp_module
from llm_workshop.serving.tensorrt_llm.arguments import (
    llm_arguments,
    sampler_argument,
    sampling_arguments,
    serve_command,
    serve_options,
    shell_line,
    version_tuple,
)
from llm_workshop.serving.tensorrt_llm.signatures import check_arguments, parameters, signatures
from llm_workshop.serving.tensorrt_llm.stamp import Stamp, StampError, check_stamp, read_stamp, write_stamp
from llm_workshop.serving.triton.engine_settings import EngineSettings, load_engine

HERE = Stamp("1.2.1", "2.9.1", "13.1", "NVIDIA H200", "9.0", "d" * 64)
SETTINGS = EngineSettings(model=Path("/models/our model"), engine="tensorrt_llm", device="cuda", max_rows=6)


def quantised(folder, algorithm):
    folder.mkdir(exist_ok=True)
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": algorithm}}))
    return folder


def test_a_stamp_comes_back_and_fits(tmp_path):
    write_stamp(tmp_path, HERE)
    assert read_stamp(tmp_path) == HERE == check_stamp(tmp_path, HERE)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Stamp)])
def test_each_part_of_a_stamp_must_fit_and_both_sides_are_named(field, tmp_path):
    other = dataclasses.replace(HERE, **{field: "8.6" if field == "capability" else "another"})
    write_stamp(tmp_path, other)
    with pytest.raises(StampError) as caught:
        check_stamp(tmp_path, HERE)
    message = str(caught.value)
    assert f"{getattr(other, field)} there" in message and f"{getattr(HERE, field)[:12].rstrip()}" in message
    assert f"python -m llm_workshop.serving.tensorrt_llm.stamp {tmp_path}" in message
    assert message.count(" there, ") == 1, "only what differs is named"


def test_a_missing_or_damaged_stamp_names_the_command(tmp_path):
    with pytest.raises(StampError, match=r"has no stamp.*tensorrt_llm\.stamp"):
        read_stamp(tmp_path)
    for text in ("{", "[]", json.dumps({"torch": "2.9.1"})):
        (tmp_path / stamp_module.FILE).write_text(text)
        with pytest.raises(StampError, match=r"is damaged.*tensorrt_llm\.stamp"):
            read_stamp(tmp_path)


@pytest.mark.parametrize(
    ("algorithm", "capability", "words"),
    [
        ("FP8", "8.6", "needs Ada, Hopper"),
        ("FP8", "8.9", None),
        ("FP8", "10.0", None),
        ("W4A16_AWQ", "7.5", "needs Ampere"),
        ("W4A16_AWQ", "8.0", None),
        ("W8A8_SQ_PER_CHANNEL", "9.0", "the PyTorch backend does not load: export fp8 or awq"),
        ("NVFP4", "9.0", "does not load"),
    ],
)
def test_a_gpu_that_cannot_run_the_quantisation_is_refused_before_the_stamp(algorithm, capability, words, tmp_path):
    stamp = dataclasses.replace(HERE, capability=capability, gpu="some GPU")
    folder = quantised(tmp_path / "checkpoint", algorithm)
    if words is None:
        write_stamp(folder, stamp)
        assert check_stamp(folder, stamp) == stamp
        return
    with pytest.raises(StampError, match=words):
        write_stamp(folder, stamp)
    assert not (folder / stamp_module.FILE).exists()


def test_the_digest_changes_with_what_is_served(folder, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    before = stamp_module.checkpoint_digest(tmp_path)
    (tmp_path / "README").write_text("not part of it")
    assert stamp_module.checkpoint_digest(tmp_path) == before
    quantised(tmp_path, "FP8")
    assert stamp_module.checkpoint_digest(tmp_path) != before


def test_the_command_stamps_and_the_engine_then_loads(folder, fake, capsys):
    assert stamp_module.main([str(folder)]) == 0 and "stamped" in capsys.readouterr().out
    assert read_stamp(folder).capability == "9.0" and read_stamp(folder).tensorrt_llm == "1.2.1"
    (folder / stamp_module.FILE).unlink()
    with pytest.raises(StampError, match="has no stamp"):
        load_engine(EngineSettings(model=folder, engine="tensorrt_llm"), lambda job: None)
    assert not fake.instances, "nothing was loaded"


def test_the_command_without_a_gpu_says_what_to_do(folder, monkeypatch, fake, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert stamp_module.main([str(folder)]) == 1
    assert "--gpus all" in capsys.readouterr().err


# ------------------------------------------------------------------ arguments


def test_the_settings_become_arguments_of_the_llm_class():
    values = llm_arguments(SETTINGS, 2048, "1.2.1")
    assert values["model"] == "/models/our model" and values["max_batch_size"] == 6
    assert values["max_seq_len"] == values["max_input_len"] == 2048 and values["skip_tokenizer_init"] is True
    assert llm_arguments(dataclasses.replace(SETTINGS, max_tokens=512), 2048, "1.2.1")["max_seq_len"] == 512
    assert llm_arguments(dataclasses.replace(SETTINGS, max_tokens=9999), 2048, "1.2.1")["max_seq_len"] == 2048
    assert values["max_num_tokens"] >= values["max_seq_len"] + values["max_batch_size"]


def test_the_sampler_with_penalties_is_named_where_it_is_not_the_default():
    assert llm_arguments(SETTINGS, 64, "1.2.1")["sampler_type"] == "TRTLLMSampler"
    assert "sampler_type" not in llm_arguments(SETTINGS, 64, "1.3.0rc26")
    old = llm_arguments(SETTINGS, 64, "1.1.0", known={"model", "enable_trtllm_sampler"})
    assert old["enable_trtllm_sampler"] is True and "sampler_type" not in old
    assert sampler_argument("1.1.0", {"model"}) == {}
    assert version_tuple("1.3.0rc26") == (1, 3)
    with pytest.raises(ValueError, match="'nightly' is none"):
        version_tuple("nightly")


@pytest.mark.parametrize(("fields", "argument"), [({"sampler_type"}, "sampler_type"), ({"enable_trtllm_sampler"}, "enable_trtllm_sampler")])
def test_the_installed_version_decides_its_name(fields, argument, fake, folder, monkeypatch):
    import tensorrt_llm

    monkeypatch.setattr(tensorrt_llm.llmapi, "TorchLlmArgs", type("Args", (), {"model_fields": dict.fromkeys(fields)}), raising=False)
    write_stamp(folder, stamp_module.present(folder))
    load_engine(EngineSettings(model=folder, engine="tensorrt_llm"), lambda job: None).close()
    assert argument in fake.instances[-1]._values and len({"sampler_type", "enable_trtllm_sampler"} & set(fake.instances[-1]._values)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [({"precision": "float32"}, "use that or auto"), ({"weights": "int8"}, "quantised checkpoint"), ({"device": "cpu"}, "serving.engine=scratch")],
)
def test_settings_of_other_engines_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        llm_arguments(dataclasses.replace(SETTINGS, **change), 64, "1.2.1")


def test_sampling_becomes_arguments_and_nothing_is_passed_for_nothing():
    values = sampling_arguments(Sampling(max_new_tokens=100, temperature=0), 30, 5, frozenset({7, 5}))
    assert values == {"max_tokens": 30, "end_id": 5, "pad_id": 5, "stop_token_ids": [5, 7], "detokenize": False,
                      "add_special_tokens": False, "top_k": 1}  # fmt: skip
    wishes = Sampling(
        max_new_tokens=9, temperature=0.7, top_k=3, top_p=0.5, min_p=0.1, repetition_penalty=1.2, frequency_penalty=0.3,
        presence_penalty=-0.4, seed=11,
    )  # fmt: skip
    values = sampling_arguments(wishes, 30, 5, frozenset({5}), logprobs=True)
    for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "seed"):
        assert values[name] == getattr(wishes, name)
    assert values["max_tokens"] == 9 and values["logprobs"] == 1


def test_every_field_of_sampling_is_used_or_ours():
    used = set(sampling_arguments(
        Sampling(1, 0.5, 2, 0.5, 0.1, 1.1, 0.1, 0.1, ("a",), 1), 30, 5, frozenset({5})
    ))  # fmt: skip
    fields = {field.name for field in dataclasses.fields(Sampling)} - {"max_new_tokens", "stop"}
    assert fields <= used


def test_the_other_server_gets_options_that_it_has(tmp_path):
    command = serve_command(SETTINGS, 2048, tmp_path / "options.yaml", "127.0.0.1", 8000)
    assert command[:2] == ["trtllm-serve", "/models/our model"] and "'/models/our model'" in shell_line(command)
    flags = dict(zip(command[2::2], command[3::2], strict=True))
    assert set(flags) <= set(signatures()["trtllm_serve"]) and flags["--max_batch_size"] == "6"
    options = yaml.safe_load(serve_options(SETTINGS, 2048))
    check_arguments(parameters("llm"), {**options, "model": "m"}, "LLM")
    assert options["max_input_len"] == 2048 and "skip_tokenizer_init" not in options


def test_an_argument_outside_the_signatures_is_found():
    with pytest.raises(ValueError, match="LLM has no parameter max_beams"):
        check_arguments(parameters("llm"), {"model": "m", "max_beams": 2}, "LLM")
    with pytest.raises(ValueError, match="LLM needs model"):
        check_arguments(parameters("llm"), {}, "LLM")


def test_what_the_engine_reads_of_tensorrt_llm_is_transcribed():
    """Attributes of the names ``output`` and ``step``, and keywords of generate_async, against the file."""
    tree = ast.parse(inspect.getsource(engine_module))
    read = {(node.value.id, node.attr) for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}  # fmt: skip
    request, completion = signatures()["request_output"], signatures()["completion_output"]
    known = {*request["methods"], *request["properties"], *completion["properties"]}
    attributes = {name for owner, name in read if owner in ("output", "step")}
    assert attributes and attributes <= known
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)
             and isinstance(node.func, ast.Attribute) and node.func.attr == "generate_async"]  # fmt: skip
    assert calls and all({word.arg for word in call.keywords} <= set(parameters("llm", "generate_async")) for call in calls)


def test_the_signatures_are_whole():
    for of, method in (("llm", "__init__"), ("llm", "generate_async"), ("sampling_params", "__init__")):
        assert all(len(fact) in (1, 2) and isinstance(fact[0], str) for fact in parameters(of, method).values())
    assert [name for name, fact in parameters("llm").items() if len(fact) == 1] == ["model"]
