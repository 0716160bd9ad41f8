"""Masks inside an ordinary fit: wrapper and callback."""
