"""Engines that run a network without PyTorch, on the same numbers.

- `base`: what an engine is
- `registry`: all of them
- `graph`: a function of torch as an ONNX graph, gradients included
- `kept`: graphs that are kept in a folder
- `choice`: the quickest engine on this machine
"""
