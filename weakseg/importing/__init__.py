"""From files as somebody else has laid them out to a manifest.

- `base`: what a layout and a published set are; what they find
- `tree`: the files of a folder, listed once
- `answers`: what cannot be told from files alone, and who is asked
- `layouts`: ways in which files lie, a file each (`weakseg init`)
- `sets`: published sets for which a layout is not enough, a file each (`weakseg import`)
- `manifest`: what is found, as ``labels.csv``
- `arrange`: from a layout or a published set to a first experiment; `words`: what is said of it
- `validate`: every problem of a manifest at once
- `import_dicom`: from a tree of DICOM files to volumes, pictures and a manifest
"""
