"""The Open Inference Protocol: KServe's and Triton's clients embed with a bundle.

The generated code is of the package `inference`, as in those clients. Two of one name cannot be in
one process, so nothing that a caller installs imports it.
"""
