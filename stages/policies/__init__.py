"""Rules that stages follow and that another could take the place of."""
