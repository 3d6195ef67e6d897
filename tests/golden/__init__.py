"""Stores that earlier versions wrote, and numbers that must stay as they are."""
