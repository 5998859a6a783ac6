"""What an evaluation is beyond accuracy: personal models where a method has none, who never trains, more metrics."""
