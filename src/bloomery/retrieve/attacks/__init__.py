"""Attacks: documents that give orders, and how often a model that answers from them obeys."""

from bloomery.retrieve.attacks.attack import Attack as Attack
from bloomery.retrieve.attacks.attack import read_attacks as read_attacks
from bloomery.retrieve.attacks.measure import AttackReport as AttackReport
from bloomery.retrieve.attacks.measure import measure_attacks as measure_attacks
