"""What people run: the command line and its screens. Nothing imports this package."""
