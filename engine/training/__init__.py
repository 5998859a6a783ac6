"""Where models train and are evaluated: the answers to what methods request."""
