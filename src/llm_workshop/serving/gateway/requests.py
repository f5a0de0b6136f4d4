"""OpenAI's request bodies as messages, prompt and Sampling.

What OpenAI's server knows and this one does not need is ignored (``IGNORED``), what asks for something that is not
here is refused (``UNSUPPORTED``), and what nobody knows is refused with the nearest name, as OpenAI's server does.
``top_k``, ``min_p`` and ``repetition_penalty`` are named as in vLLM, and 0 or -1 turns ``top_k`` off as there.
References: OpenAI API reference, Chat and Completions; vLLM, OpenAI-Compatible Server, extra parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_workshop.serving.engine import Message, Sampling
from llm_workshop.serving.gateway.errors import ApiError
from llm_workshop.serving.gateway.fields import Fields, check_text, invalid
from llm_workshop.serving.gateway.limits import Limits

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "seed", "stop")
COMMON = ("model", "max_tokens", "n", "stream", "stream_options", "logprobs", *SAMPLING)
#: Notes for billing, caching and routing, which change no answer here.
IGNORED = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_options",
    "prompt_cache_retention", "prediction", "parallel_tool_calls",
)  # fmt: skip
_NO_TOOLS = "This server's models call no tools."
_NO_LOGPROBS = "The engines here tell no log-probability of single tokens."
UNSUPPORTED = {
    "tools": _NO_TOOLS,
    "functions": _NO_TOOLS,
    "function_call": _NO_TOOLS,
    "logit_bias": "No token can be biased here: leave it out.",
    "top_logprobs": _NO_LOGPROBS,
    "audio": "Answers are text: leave it out.",
    "web_search_options": "Nothing is searched here: leave it out.",
    "moderation": "Nothing is moderated here: leave it out.",
    "reasoning_effort": "No model here reasons before it answers: leave it out.",
    "verbosity": "Ask for a short answer in the prompt, or with max_tokens.",
    "suffix": "Text is only written after the prompt: leave it out.",
    "echo": "The prompt is not repeated: put it before the answer yourself.",
}
CHAT_ONLY = ("tools", "functions", "function_call", "top_logprobs", "audio", "web_search_options", "moderation",
             "reasoning_effort", "verbosity")  # fmt: skip
COMPLETION_ONLY = ("suffix", "echo")
#: Of an answer that a client sends back as part of the conversation; they may be there as long as they are empty.
_EMPTY_IN_MESSAGES = ("refusal", "annotations", "audio", "function_call", "tool_calls", "reasoning", "reasoning_content")


@dataclass(frozen=True)
class Request:
    """A checked request: ``messages`` for a conversation, or ``prompt`` for a text to be continued."""

    model: str
    sampling: Sampling
    stream: bool
    include_usage: bool
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None


def chat_request(values: dict[str, Any], limits: Limits, context_length: int | None = None) -> Request:
    """The body of /v1/chat/completions; raises ApiError naming the parameter.

    ``context_length`` of the model, where it is known, is what a refusal of too large a ``max_tokens`` names.
    """
    fields = Fields(values)
    known = (*COMMON, *IGNORED, "messages", "max_completion_tokens", "response_format", "modalities", "tool_choice")
    fields.refuse_unknown(known, {k: v for k, v in UNSUPPORTED.items() if k not in COMPLETION_ONLY})
    _refuse_other_forms(fields)
    if fields.flag("logprobs"):
        raise ApiError(f"Unsupported parameter: 'logprobs'. {_NO_LOGPROBS}", param="logprobs", code="unsupported_parameter")
    if fields.get("max_tokens") is not None and fields.get("max_completion_tokens") is not None:
        raise ApiError(
            "Give 'max_tokens' or 'max_completion_tokens', not both.", param="max_tokens", code="invalid_value"
        )
    name = "max_tokens" if fields.get("max_tokens") is not None else "max_completion_tokens"
    default = min(limits.default_max_tokens, limits.max_tokens)
    sampling = _sampling(fields, _max_tokens(fields, name, default, limits, context_length), limits)
    return Request(_model(fields), sampling, *_streaming(fields), messages=_messages(fields, limits))


def completion_request(values: dict[str, Any], limits: Limits, context_length: int | None = None) -> Request:
    """The body of /v1/completions; as ``chat_request``."""
    fields = Fields(values)
    known = (*COMMON, *IGNORED, "prompt", "best_of")
    fields.refuse_unknown(known, {k: v for k, v in UNSUPPORTED.items() if k not in CHAT_ONLY})
    # Here logprobs is a number, and 0 asks for the chosen tokens' own.
    if (logprobs := fields.get("logprobs")) is not None and logprobs is not False:
        raise ApiError(f"Unsupported parameter: 'logprobs'. {_NO_LOGPROBS}", param="logprobs", code="unsupported_parameter")
    fields.integer("best_of", 1, 1, 1)
    # 16 is OpenAI's default for this route.
    sampling = _sampling(fields, _max_tokens(fields, "max_tokens", min(16, limits.max_tokens), limits, context_length), limits)
    return Request(_model(fields), sampling, *_streaming(fields), prompt=_prompt(fields, limits))


def _model(fields: Fields) -> str:
    if not (model := fields.text("model")):
        raise ApiError("Missing required parameter: 'model'. GET /v1/models lists the names.", param="model", code="missing_required_parameter")
    return model


def _max_tokens(fields: Fields, name: str, default: int, limits: Limits, context_length: int | None) -> int:
    """Tools ask for thousands without looking: up to the gateway's limit that is taken, and cut to the context later."""
    try:
        return fields.integer(name, default, 1, limits.max_tokens)
    except ApiError:
        most = min(limits.max_tokens, context_length or limits.max_tokens)
        raise invalid(name, fields.values[name], f"a whole number at least 1 and at most {most}") from None


def _streaming(fields: Fields) -> tuple[bool, bool]:
    stream, options = fields.flag("stream"), fields.get("stream_options")
    if options is None:
        return stream, False
    if not isinstance(options, dict):
        raise invalid("stream_options", options, "an object such as {\"include_usage\": true}")
    if not stream:
        raise ApiError("'stream_options' is only for 'stream': true.", param="stream_options", code="invalid_value")
    inner = Fields(options)
    inner.refuse_unknown(("include_usage", "include_obfuscation"), {})
    return stream, inner.flag("include_usage")


def _sampling(fields: Fields, max_tokens: int, limits: Limits) -> Sampling:
    fields.integer("n", 1, 1, 1)
    top_k = fields.integer("top_k", None, -1, 2**31 - 1)
    # The smallest nucleus is the likeliest token alone; engines take no 0.
    top_p = fields.number("top_p", None, 0, 1)
    seed = fields.integer("seed", None, -(2**63), 2**63 - 1)
    return Sampling(
        max_new_tokens=max_tokens,
        temperature=fields.number("temperature", 1.0, 0, 2),
        top_k=1 if top_p == 0 else (top_k if top_k is not None and top_k > 0 else None),
        top_p=None if top_p in (0, 1) else top_p,
        min_p=fields.number("min_p", None, 0, 1) or None,
        repetition_penalty=fields.number("repetition_penalty", 1.0, 0, 10, above=True),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2, 2),
        presence_penalty=fields.number("presence_penalty", 0.0, -2, 2),
        stop=_stop(fields, limits),
        # OpenAI's seeds may be negative, an engine's may not: the lower 63 bits tell them apart well enough.
        seed=None if seed is None else seed & (2**63 - 1),
    )


def _stop(fields: Fields, limits: Limits) -> tuple[str, ...]:
    value = fields.get("stop", ())
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or len(texts) > limits.max_stop:
        raise invalid("stop", value, f"a text, or a list of at most {limits.max_stop}")
    for text in texts:
        if not check_text("stop", text) or len(text) > 1000:
            raise invalid("stop", text, "texts of 1 to 1000 characters")
    return tuple(texts)


def _refuse_other_forms(fields: Fields) -> None:
    form = fields.get("response_format", {"type": "text"})
    if not isinstance(form, dict) or form.get("type") != "text":
        raise ApiError(
            "Unsupported parameter: 'response_format'. Answers are plain text; ask for JSON in the prompt and check it.",
            param="response_format",
            code="unsupported_parameter",
        )
    if fields.get("modalities", ["text"]) != ["text"]:
        raise ApiError("Unsupported parameter: 'modalities'. Answers are text.", param="modalities", code="unsupported_parameter")
    if fields.get("tool_choice", "none") not in ("none", "auto"):
        raise ApiError(f"Unsupported parameter: 'tool_choice'. {_NO_TOOLS}", param="tool_choice", code="unsupported_parameter")


def _prompt(fields: Fields, limits: Limits) -> str:
    prompt = fields.get("prompt")
    if prompt is None:
        raise ApiError("Missing required parameter: 'prompt'.", param="prompt", code="missing_required_parameter")
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise invalid("prompt", prompt, "one text; several prompts or token numbers are not taken here")
        prompt = prompt[0]
    _check_length(len(check_text("prompt", prompt)), limits, "prompt")
    return prompt


def _messages(fields: Fields, limits: Limits) -> tuple[Message, ...]:
    values = fields.get("messages")
    if values is None:
        raise ApiError("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    if not isinstance(values, list) or not 0 < len(values) <= limits.max_messages:
        raise invalid("messages", values, f"a list of 1 to {limits.max_messages} messages")
    messages = [_message(f"messages[{index}]", value) for index, value in enumerate(values)]
    _check_length(sum(len(message["content"]) for message in messages), limits, "messages")
    # Several instructions at the start are one for the engine, whose template has room for one.
    n_system = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if n_system > 1:
        text = "\n\n".join(message["content"] for message in messages[:n_system])
        messages[:n_system] = [{"role": "system", "content": text}]
    for index, message in enumerate(messages[1:], 1):
        if message["role"] == "system":
            raise invalid(f"messages[{index + max(n_system - 1, 0)}].role", "system", "system messages at the start only")
    if messages[-1]["role"] != "user":
        raise invalid(f"messages[{len(values) - 1}].role", messages[-1]["role"], "a user's message as the last one")
    return tuple(messages)


def _message(name: str, value: Any) -> Message:
    if not isinstance(value, dict):
        raise invalid(name, value, "an object with role and content")
    role = value.get("role")
    if role in ("tool", "function"):
        raise ApiError(f"{name}.role is {role!r}. {_NO_TOOLS}", param=f"{name}.role", code="unsupported_value")
    if role not in ("system", "developer", "user", "assistant"):
        raise invalid(f"{name}.role", role, "system, developer, user or assistant")
    for key, extra in value.items():
        if key not in ("role", "content", "name") and (extra or key not in _EMPTY_IN_MESSAGES):
            raise ApiError(f"Unsupported field: '{name}.{key[:60]}'.", param=f"{name}.{key[:60]}", code="unsupported_parameter")
    return {"role": "system" if role == "developer" else role, "content": _content(f"{name}.content", value.get("content"))}


def _content(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return check_text(name, value)
    texts = []
    for index, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            what = f"a part of type {str(kind)[:40]!r}" if kind else "no part with a type"
            raise ApiError(f"{name}[{index}] is {what}: only text parts are read here.", param=f"{name}[{index}]", code="unsupported_value")
        texts.append(check_text(f"{name}[{index}].text", part.get("text")))
    return "".join(texts)


def _check_length(n_characters: int, limits: Limits, name: str) -> None:
    if n_characters > limits.max_prompt_characters:
        raise ApiError(
            f"'{name}' has {n_characters} characters, at most {limits.max_prompt_characters} are taken: shorten it.",
            param=name,
            code="context_length_exceeded",
        )
