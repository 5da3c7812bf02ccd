"""fsbench: fixed episodes, per-episode results and paired statistics for few-shot image classification."""
