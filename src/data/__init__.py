"""Text to ids to batches: ``build.py`` is the way in. Nothing is imported here, so that --help comes at once."""
