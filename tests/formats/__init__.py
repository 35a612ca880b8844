"""Buckets as released versions of Almanac wrote them, and what later versions must still make of them."""
