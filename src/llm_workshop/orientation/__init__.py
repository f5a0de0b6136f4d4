"""Week 1: what is installed here, a first model, the chain of stages, and one checkpoint in several tools."""
