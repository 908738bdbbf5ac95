"""Methods of a run as files that work without PyTorch.

- `export`: from a run to a folder
- `graphs`: what a method makes of an image, as a graph of torch's operations
- `masks`: from a map to a mask, as ONNX operations
- `description`: ``model.json``, and the script beside it
- `exported`: such a folder as a method
"""
