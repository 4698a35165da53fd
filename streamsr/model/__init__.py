"""The restorer: network, guide, sampler and weights. torch only."""
