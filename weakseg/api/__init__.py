"""What a notebook or a script calls beside the commands: one network, one run, one estimator.

- `explain`, `explanation`, `preprocessing`, `targets`: heatmaps of anybody's network
- `weak_segmenter`, `training_set`: scikit-learn's habits, over the stages of the commands
- `opened`, `case_view`: a run folder, read
- `figure`: pictures in notebooks
"""
