"""Programs as JAX traces and XLA compiles them: everything that reads or rewrites a jaxpr, and nothing else may."""
