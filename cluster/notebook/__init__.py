"""What notebooks and scripts use: runs started from Python, and folders of runs as objects."""
