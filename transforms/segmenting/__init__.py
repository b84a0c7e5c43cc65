"""The step that runs the network: from work units to masks and rows.

May import planning, inputs, photos, output, flow and storage.
"""
