"""Upper floor: joins scratch_llm to data, reports, serving and the course."""
