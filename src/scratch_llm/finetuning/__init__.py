"""Fine-tuning: a pretrained model learns a task."""

from scratch_llm.finetuning.classification import PAD, POOLINGS, Classifier, train_only
from scratch_llm.finetuning.labelled import LabelledTexts
from scratch_llm.finetuning.predicting import predict
from scratch_llm.finetuning.saving import SavedClassifier, load_classifier, save_classifier

__all__ = [
    "PAD",
    "POOLINGS",
    "Classifier",
    "LabelledTexts",
    "SavedClassifier",
    "load_classifier",
    "predict",
    "save_classifier",
    "train_only",
]
