"""Pure rules: standard library only, no clock, no I/O. Each noun lives with its rule."""
