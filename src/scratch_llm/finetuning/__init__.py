"""Fine-tuning: a pretrained model learns a task."""

from scratch_llm.finetuning.classification import PAD, POOLINGS, Classifier, train_only
from scratch_llm.finetuning.labelled import LabelledTexts
from scratch_llm.finetuning.predicting import predict

__all__ = ["PAD", "POOLINGS", "Classifier", "LabelledTexts", "predict", "train_only"]
