"""The model contract: what a bundle directory holds and how to read it. No torch in here.

Shapes, here and in the whole repository: B batch, T tokens, P patches, C concepts, K active
concepts of a row, D CLIP width, H LLM width.
"""
