"""Energy: meters for what the machine lets us read, an estimate for the rest, and what the joules mean."""

from bloomery.energy.carbon import EnergyConfig
from bloomery.energy.footprint import Footprint, footprint
from bloomery.energy.meter import Sharers, describe_meters, open_meter, sharing

__all__ = ["EnergyConfig", "Footprint", "Sharers", "describe_meters", "footprint", "open_meter", "sharing"]
