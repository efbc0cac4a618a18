"""ONNX Runtime sessions of a bundle's graphs: the one place that imports onnxruntime and names the
inputs and outputs of a graph."""
