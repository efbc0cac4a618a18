"""Several processes that take calls, over one process that runs the model."""
