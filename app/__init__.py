"""Tributary: many upstream calls, one answer, every missing part explained."""
