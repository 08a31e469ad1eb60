"""The compiled training step: many updates in one call, without Python in between."""
