"""Whether generated images are the training images over again."""
