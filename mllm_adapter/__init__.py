"""Sparse codes to an LLM: steering, projector, prompt, training, generation."""
