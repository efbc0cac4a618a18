"""Trains the sparse vision backbone: recipes, model, losses, loop, evaluation, naming, export.

Shapes: B batch, T tokens, P patches, C concepts, K active concepts of a row, D CLIP width.
"""
