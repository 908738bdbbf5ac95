"""Methods of a run as files that work without PyTorch.

- `export`: from a run to a folder
- `graphs`: which methods are exported, and how
- `heatmap_graph`, `network_graph`: a method of images as a graph of torch's operations
- `masks`, `parts`: from a map to a mask, as ONNX operations
- `windows`: a network of whole volumes as a graph, and such a graph as a network
- `model`: what the graphs of all kinds of methods share
- `description`, `volumes`: ``model.json`` of images and slices, and of whole volumes
- `about`: ``model.json`` as it is read
- `script`: ``use.py``
- `exported`: such a folder as a method
"""
