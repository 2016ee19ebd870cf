"""Batch normalisation over volumes and video for MindSpore."""
