"""Where notebooks meet the library: binding, recording, running headless. The only rooms that know IPython."""
