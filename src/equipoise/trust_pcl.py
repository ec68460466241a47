"""Trust-PCL and RTB, by the short path: `equipoise.trust_pcl.consistency`. See `equipoise.objectives.trust_pcl`."""

from equipoise.objectives.trust_pcl import (
    consistency,
    path_consistency,
    rtb_to_trust_pcl_params,
    trust_pcl_to_rtb_params,
)

__all__ = ["consistency", "path_consistency", "rtb_to_trust_pcl_params", "trust_pcl_to_rtb_params"]
