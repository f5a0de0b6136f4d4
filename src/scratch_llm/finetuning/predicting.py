"""Classes of many texts at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scratch_llm.finetuning.classification import Classifier
from scratch_llm.finetuning.labelled import LabelledTexts


@torch.no_grad()
def predict(classifier: Classifier, sequences: Sequence[Sequence[int]], batch_size: int = 64,
            precision: torch.dtype = torch.float32) -> Tensor:
    """Logits float32 (n, n_classes) on the CPU, in the order given; texts of like length are computed together.

    Args:
        sequences: token ids of each text; what is longer than the context loses its end.
        precision: of the products, float32 or bfloat16.

    Raises:
        ValueError: no texts, or a text without a token.
    """
    longest = None if classifier.backbone.recurrent else classifier.config.context_length
    windows = LabelledTexts(sequences, [0] * len(sequences), batch_size, n_classes=1, max_length=longest, shuffle=False)
    device, was_training = classifier.device, classifier.training
    classifier.eval()
    logits = torch.empty(len(sequences), classifier.n_classes)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        for number, rows in enumerate(windows.rows_of_epoch(0)):
            inputs, _ = windows.batch(number)
            logits[torch.from_numpy(rows)] = classifier(inputs.to(device)).cpu()
    classifier.train(was_training)
    return logits
