"""Faces: finding and following them, aligning, masking, putting them back.

Modules are imported by name (``from streamsr.face.tracker import MediaPipeTracker``); importing
this package loads nothing, mediapipe in particular.
"""
