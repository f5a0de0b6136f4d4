"""The groups of settings, by the weeks that use them; ``llm_workshop.settings`` loads them."""

from llm_workshop.sections.automodel import AutoModelSettings
from llm_workshop.sections.base import Section
from llm_workshop.sections.data import (
    CompareTokenizersSettings,
    CorpusSettings,
    CurationSettings,
    ExtendTokenizerSettings,
    HelloSettings,
    TokenizerSettings,
)
from llm_workshop.sections.distributed import DistributedSettings
from llm_workshop.sections.finetuning import FinetuneSettings, InstructSettings
from llm_workshop.sections.peft import PeftSettings
from llm_workshop.sections.scaling import ScalingSettings, SearchSettings, SpeedSettings
from llm_workshop.sections.serving import (
    ChatSettings,
    GenerateSettings,
    LoadTestSettings,
    QuantizeSettings,
    ServingSettings,
)
from llm_workshop.sections.training import CompareSettings, ModelSettings, PretrainSettings, TrialsSettings

__all__ = [
    "AutoModelSettings",
    "ChatSettings",
    "CompareSettings",
    "CompareTokenizersSettings",
    "CorpusSettings",
    "CurationSettings",
    "DistributedSettings",
    "ExtendTokenizerSettings",
    "FinetuneSettings",
    "GenerateSettings",
    "HelloSettings",
    "InstructSettings",
    "LoadTestSettings",
    "ModelSettings",
    "PeftSettings",
    "PretrainSettings",
    "QuantizeSettings",
    "ScalingSettings",
    "SearchSettings",
    "Section",
    "ServingSettings",
    "SpeedSettings",
    "TokenizerSettings",
    "TrialsSettings",
]
