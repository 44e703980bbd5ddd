"""What one does with a sampler: images, classification of digits."""
