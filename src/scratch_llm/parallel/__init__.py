"""One model on several processes: matrices cut in pieces."""

from scratch_llm.parallel.tensor_parallel import ColumnParallelLinear, RowParallelLinear, Team, parallelize

__all__ = ["ColumnParallelLinear", "RowParallelLinear", "Team", "parallelize"]
