"""Transforms and filters that know nothing about models."""
