"""The model contract: what a bundle holds, and how to read and write it. Without torch.

Shapes, here and in the whole repository: B batch, T tokens, P patches, C concepts, K active
concepts of a row, D CLIP width, H LLM width.
"""
