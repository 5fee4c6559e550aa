"""The record of a change: its journal, its files, its notebooks."""
