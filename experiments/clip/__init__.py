"""CLIP: images and their captions meet in one space."""
