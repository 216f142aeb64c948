"""Lung cancer survival at three hospital alliances: the main job, end to end.

Data, product files and offers lie beside `demo.py`, which plays the scenario.
"""
