"""Images filtered by heatmaps, and what a classifier makes of them.

- `ranking`: pixels in order of heat, ties broken at random
- `selectors`: what a filter marks: heat, truth, and the controls of equal area
- `sources`: what they are made from: heatmaps, true masks, and masks borrowed
- `imputation`: noisy linear imputation
- `filters`: the image that is left, with what took the place of the rest
- `images`: filtered images of a whole set, as training takes them
- `perturbed`: pixels changed in the order of their heat, and what a network says of it
- `faithfulness`: ROAD, insertion, deletion and preservation, without retraining; `measured`: all of
  them for images of a set
- `questions`: what retraining on filtered images answers
"""
