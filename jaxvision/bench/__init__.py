"""Benchmarks: jaxvision beside other frameworks, its input beside bare tf.data, and the ceiling of the hardware."""
