"""Tests of the torch-free model contract, and of the export that fills it."""
