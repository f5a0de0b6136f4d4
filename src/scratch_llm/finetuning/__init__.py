"""Fine-tuning: a pretrained model learns a task."""

from scratch_llm.finetuning.classification import PAD, POOLINGS, Classifier, layer_choices, train_only
from scratch_llm.finetuning.labelled import LabelledTexts
from scratch_llm.finetuning.predicting import predict
from scratch_llm.finetuning.saving import SavedClassifier, load_classifier, save_classifier

__all__ = [
    "PAD",
    "POOLINGS",
    "Classifier",
    "LabelledTexts",
    "SavedClassifier",
    "layer_choices",
    "load_classifier",
    "predict",
    "save_classifier",
    "train_only",
]
