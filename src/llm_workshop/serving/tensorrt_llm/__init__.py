"""TensorRT-LLM behind the server: the engine, its arguments, and the stamp that ties a checkpoint to its image."""
