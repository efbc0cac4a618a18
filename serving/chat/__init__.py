"""Steered conversations: from images, edits and messages to an answer, as it is generated.

torch and mllm_adapter are imported inside functions, and only where a bundle has an adapter.
"""
