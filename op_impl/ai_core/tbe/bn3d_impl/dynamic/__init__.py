"""Entries of the operators for SoCs whose static shapes are compiled by the unify scheduler."""
