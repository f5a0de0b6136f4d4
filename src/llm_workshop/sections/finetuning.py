"""Settings of week 6: fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_workshop.sections.base import Section


class FinetuneSettings(Section):
    task: str | None = Field(
        None, description="what to classify: reviews, reviews-category, nsmc, sms, sentineg, intent, petitions, or a file with text and label; null = that of DATA, else reviews"
    )
    examples: int | None = Field(None, ge=8, description="training texts at most; null = all (of the sample 4,000)")
    epochs: float = Field(2.0, gt=0, description="how often each text is seen")
    batch_size: int = Field(16, ge=1, description="texts per optimiser step")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate where all layers learn; others take a multiple of it")
    layers: str = Field("all", description="what learns besides the head: head (nothing), last-1, last-2 ..., all, or lora")
    rank: int = Field(8, ge=1, description="rank of the adapters where layers=lora")
    pooling: Literal["last", "mean"] = Field("last", description="the state that the head reads: of the last token, or the mean")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of that state")
    balanced: bool = Field(False, description="true: rare classes weigh more in the loss, so that all count alike")
    max_length: int | None = Field(None, ge=2, description="longer texts lose their end (tokens); null = the model's context")
    padding: Literal["grouped", "longest", "fixed"] = Field("grouped", description="how rows of a batch get one length")
    trial_examples: int = Field(1000, ge=8, description="training texts of each trial of the comparison of layers")
    label_counts: tuple[int, ...] = Field((50, 200, 800), description="numbers of labelled texts for the learning curve")


class InstructSettings(Section):
    data: tuple[str, ...] = Field(("sample",), min_length=1, description="instructions to learn: sample, sft_ko, book, or a .json or .jsonl file")
    megabytes: float = Field(3.0, gt=0, description="size of the sample that instructions are taken from (MB)")
    tasks: tuple[str, ...] | None = Field(None, description="only these tasks of the data; null = all")
    max_examples: int | None = Field(None, ge=8, description="training examples at most; null = all")
    template: Literal["chat", "alpaca"] = Field("chat", description="how instruction and answer are written in a row")
    learn: Literal["answers", "all"] = Field("answers", description="what counts in the loss: the answers, or the prompts too")
    layout: Literal["packed", "grouped", "padded"] = Field("packed", description="several examples in a row, or one with others of like length, or one")
    epochs: float = Field(2.0, gt=0, description="how often each example is seen")
    batch_size: int = Field(8, ge=1, description="rows per optimiser step")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.1, ge=0, description="AdamW's decoupled weight decay (matrices only)")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="arithmetic; auto = the faster one")
    compile: Literal["auto", "on", "off"] = Field("off", description="torch.compile the training step")
    questions: int = Field(40, ge=4, description="held-out questions asked of each task")
    max_new_tokens: int = Field(48, ge=1, description="longest answer to them (tokens)")
    judge: str | None = Field(None, description="OpenAI-compatible address (.../v1) of a model that judges open answers; null = plain rules")
    judge_model: str | None = Field(None, description="its name there; null = the server's only one")
