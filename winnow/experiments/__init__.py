"""The figures of experiments: from gateways' metrics to estimates with intervals."""
