"""``weakseg predict``: masks of images that nobody has labelled, by a method of a run.

- `inputs`: what the arguments stand for: files, folders without what is no scan, manifests
- `predict`: masks, heatmaps, pictures and tables
- `slices`: volumes, by a method that sees slices
- `lesions`: each connected lesion, measured
- `unlike`: images that look unlike the run's training images
"""
