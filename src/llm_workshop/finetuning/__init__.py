"""Fine-tuning around ``scratch_llm.finetuning``: tasks with labels, training, figures, comparisons."""
