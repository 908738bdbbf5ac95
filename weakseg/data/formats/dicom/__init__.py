"""DICOM: single images and series, by pydicom; nothing of a patient leaves this room."""
