"""How many replicas a load needs: a measured cost model, a simulation with the real batcher, and a plan."""
