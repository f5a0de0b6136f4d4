"""The training of weeks 5 and 6 by NVIDIA's tools: NeMo AutoModel, NeMo Run, Megatron core, each in its own environment."""
