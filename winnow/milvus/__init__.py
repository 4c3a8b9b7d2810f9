"""Milvus, a distributed vector engine, in the place of the embedded indexes."""
