"""Local corruptions: the 19 types of CIFAR-10-C at five severities, made from images at hand (stored as local-c)."""
